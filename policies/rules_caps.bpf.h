/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
 *
 * rules_caps.bpf.h - what each rule's cap covers, how much that is, and what of it is too much.
 *
 * Owns:      the accounts of the caps.
 * Invariant: what is too much is decided by the counts of the last whole round: as many bytes as are above the cap, the
 *            oldest class of idle time first, and within the last class as the table has them.
 * Callers:   rules.bpf.c alone.
 */
/* clang-format off */
#ifndef TIERD_RULES_CAPS_BPF_H
#define TIERD_RULES_CAPS_BPF_H

#include "rules_match.bpf.h"

#define AGES 64 /* classes of idle time, each twice the one before */

static __u64 round_ns, last_round_ns; /* when this round and the one before began */

/* What the extents take whose cap a rule decides. */
static struct cap {
	__u64 held_bytes;          /* as counted in the last round, and missed since */
	__u64 counted_bytes[AGES]; /* in this round, by idle time */
	__u64 excess_bytes;        /* of age `line` in the last round, that go first; all that were older do */
	__u32 line;
} caps[TIERD_MAX_RULES];

static struct cap *cap_at(__u32 r)
{
	return &caps[r & (TIERD_MAX_RULES - 1)];
}

/* The binary logarithm of the idle time. */
static __u32 age_at(__u64 when_ns, const struct tierd_extent *row)
{
	return 63 - __builtin_clzll(idle_at(when_ns, row) | 1);
}

/* Counts the extent under its cap. Is it of what goes first? */
static __noinline int in_excess(struct cap *cap, const struct tierd_extent *row)
{
	__u32 age = age_at(last_round_ns, row);

	cap->counted_bytes[tierd_index(age_at(round_ns, row), AGES)] += row->bytes;
	if (age != cap->line || !cap->excess_bytes)
		return age > cap->line;
	cap->excess_bytes -= row->bytes < cap->excess_bytes ? row->bytes : cap->excess_bytes;
	return 1;
}

/* After a round: from which age on is it too much? */
static __noinline int draw_line(struct cap *cap, __u64 cap_bytes)
{
	__u64 held = 0, excess;
	__u32 age;

	for (age = 0; age < AGES; age++)
		held += cap->counted_bytes[age];
	excess = held > cap_bytes ? held - cap_bytes : 0;
	for (age = AGES - 1; age > 0 && excess > cap->counted_bytes[age]; age--)
		excess -= cap->counted_bytes[age];
	*cap = (struct cap){ .held_bytes = held, .excess_bytes = excess, .line = age };
	return 0;
}

/* Each extent is looked at once in a round. */
static void start_round(__u64 now_ns)
{
	__u32 r;

	last_round_ns = round_ns;
	round_ns = now_ns;
	tierd_for (r, 0, TIERD_MAX_RULES)
		draw_line(cap_at(r), rule_at(r)->cap_bytes);
}

#endif /* TIERD_RULES_CAPS_BPF_H */
