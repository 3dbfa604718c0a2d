/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
 *
 * rules_match.bpf.h - which rule decides what for an extent.
 *
 * Owns:      the rules, and which of them fit each model and each tier.
 * Invariant: for each setting the first rule in the file's order that fits and sets it decides, else [default].
 * Callers:   rules.bpf.c and its caps.
 */
/* clang-format off */
#ifndef TIERD_RULES_MATCH_BPF_H
#define TIERD_RULES_MATCH_BPF_H

#include "tierd.bpf.h"
#include "tierd_rules.h"

#define HIGH_WATER 950 /* permille of a tier, from which on nothing is sent there */

/* As shipped: nothing but the default, by the last touch. */
const volatile struct tierd_rule TIERD_RULES[TIERD_MAX_RULES] = {
	[TIERD_DEFAULT_RULE] = { .cap_bytes = ~0ull, .read_ahead = TIERD_DEFAULT_READ_AHEAD, .evict = TIERD_EVICT_NORMAL },
};

static __u64 rules_of_model[TIERD_MAX_MODELS];      /* bit: the rule fits the model and its tenant */
static __u32 tiers_of_rule[TIERD_MAX_RULES];        /* bit: the rule prefers this tier */
static __u64 rules_setting[NR_TIERD_RULE_SETTINGS]; /* bit: the rule decides on this */

static const struct tierd_rule *rule_at(__u32 r)
{
	const struct tierd_rule *rule = (const struct tierd_rule *)&TIERD_RULES[r & (TIERD_MAX_RULES - 1)];

	asm volatile("" : "+r"(rule)); /* the compiler must not believe that they stay as they are here */
	return rule;
}

/* What was read ahead and not touched yet counts from its arrival. */
static __u64 last_use_ns(const struct tierd_extent *row)
{
	return row->last_touch_ns > row->filled_ns ? row->last_touch_ns : row->filled_ns;
}

/* 0 also where the row was touched since `when_ns`: tierd goes on while we run. */
static __u64 idle_at(__u64 when_ns, const struct tierd_extent *row)
{
	__u64 used_ns = last_use_ns(row);

	return when_ns > used_ns ? when_ns - used_ns : 0;
}

/* Here and below no branches: the verifier would follow every combination of them. The difference of two numbers in the
 * wrong order is negative, which its highest bit tells.
 */
static __u64 in_ranges(const struct tierd_rule_range *ranges, __u64 value)
{
	__u64 in = 0;

	for (int i = 0; i < TIERD_RULE_RANGES; i++)
		in |= ~((value - ranges[i].first) | (ranges[i].last - value));
	return in >> 63;
}

static __u64 fits(const struct tierd_rule *rule, const struct tierd_extent *row, __u64 idle_ns)
{
	__u64 heat = row->heat, out = (heat - rule->heat_least) | (rule->heat_most - heat) | (idle_ns - rule->idle_ns);

	return ~out >> 63 & rule->roles >> (row->role & 15) & in_ranges(rule->layers, row->layer) &
	       in_ranges(rule->experts, row->expert);
}

/* The rules that fit an extent, as bits. */
static __noinline __u64 rules_for(const struct tierd_extent *row, __u64 idle_ns)
{
	__u64 candidates = rules_of_model[row->model & (TIERD_MAX_MODELS - 1)], rules = 0;
	__u32 r;

	tierd_for (r, 0, TIERD_DEFAULT_RULE) {
		const struct tierd_rule *rule = rule_at(r);

		if (!rule->sets)
			break;
		rules |= fits(rule, row, idle_ns) << r;
	}
	return rules & candidates;
}

/* The number of the rule that decides. */
static __u32 decider(__u64 rules, enum tierd_rule_setting setting)
{
	return tierd_index(__builtin_ctzll((rules & rules_setting[setting]) | 1ull << TIERD_DEFAULT_RULE), TIERD_MAX_RULES);
}

static void note_rules(void)
{
	__u32 r;

	tierd_for (r, 0, TIERD_DEFAULT_RULE)
		for (int setting = 0; setting < NR_TIERD_RULE_SETTINGS; setting++)
			rules_setting[setting] |= (rule_at(r)->sets >> setting & 1ull) << r;
}

/* Before extents of the model are looked at. */
static void note_model(__u32 slot, const struct tierd_model *model)
{
	__u64 rules = 0;
	__u32 r;

	tierd_for (r, 0, TIERD_DEFAULT_RULE) {
		const struct tierd_rule *rule = rule_at(r);

		if (rule->sets && (!rule->cgroup || rule->cgroup == model->cgroup) &&
		    (rule->uid == TIERD_ANY_USER || rule->uid == model->uid) && tierd_glob(rule->model, model->name))
			rules |= 1ull << r;
	}
	rules_of_model[slot & (TIERD_MAX_MODELS - 1)] = rules;
}

static __u32 preferred_tiers(const struct tierd_rule *rule)
{
	__u32 preferred = 0, t;

	tierd_for (t, 1, TIERD_MAX_TIERS) {
		const struct tierd_tier_info *info = tierd_tier(t);

		if (info && !info->draining &&
		    (rule->tier_kind ? info->kind == rule->tier_kind
				     : tierd_glob_in(rule->tier, info->name, TIERD_TIER_NAME_BYTES)))
			preferred |= 1u << t;
	}
	return preferred;
}

/* Before tiers are looked at: they come and go. */
static void note_tiers(void)
{
	__u32 r;

	tierd_for (r, 0, TIERD_MAX_RULES)
		tiers_of_rule[r & (TIERD_MAX_RULES - 1)] = preferred_tiers(rule_at(r));
}

/* A preferred tier with room; TIERD_NO_TIER: there is none, or the extent is in one. */
static __u32 better_tier(__u64 rules, __u32 tier)
{
	__u32 preferred = tiers_of_rule[decider(rules, TIERD_SETS_TIER)], t;

	if (preferred && !(preferred >> (tier & 31) & 1))
		tierd_for (t, 1, TIERD_MAX_TIERS)
			if (preferred >> t & 1 && tierd_pressure_permille(t) < HIGH_WATER)
				return t;
	return TIERD_NO_TIER;
}

#endif /* TIERD_RULES_MATCH_BPF_H */
