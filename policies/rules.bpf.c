/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
 *
 * rules.bpf.c - what an administrator wrote down in TOML; all else goes by the last touch.
 *
 * Why:   most wishes are a sentence: hold the routers, this tenant gets 4 GiB, that model goes first. None needs C.
 * How:   `tierctl policy build rules.toml` writes the rules into a copy of this object. The score of an extent is its
 *        class above the time of its last touch. Of what a cap covers, the excess goes to class "first", oldest first.
 * Reads: rows and models; tiers where a rule prefers one. Knobs: none but the rules.
 */
#include "rules_caps.bpf.h"
#include "rules_match.bpf.h"

TIERD_POLICY("Dual BSD/GPL");

#define WINDOW 16384  /* extents looked at in one epoch; a larger table takes several: a round */
#define MOST_MOVES 64 /* proposed in one epoch */

static __u32 cursor; /* where the next epoch goes on */
static __u32 moves;  /* proposed in this one; not a local, since the verifier would count along */

static void ctx_score(__u32 extent, __u64 rules, int is_excess, __u64 touch_ns)
{
	struct tierd_extent_ctx *ctx = tierd_extent_ctx(extent);
	__u64 class = is_excess ? TIERD_EVICT_FIRST : rule_at(decider(rules, TIERD_SETS_EVICT))->evict;

	if (ctx)
		ctx->score = rule_at(decider(rules, TIERD_SETS_PIN))->pin && !is_excess ? TIERD_HOLD
											  : class << 60 | touch_ns;
}

/* An extent is touched now, or soon. What was missed counts at once: a cap holds within a round too. */
static __noinline __u64 touch(__u32 extent, const struct tierd_extent *row, __u64 now_ns, int is_miss)
{
	__u64 rules = rules_for(row, 0);
	__u32 r = decider(rules, TIERD_SETS_CAP);

	cap_at(r)->held_bytes += is_miss ? row->bytes : 0;
	ctx_score(extent, rules, cap_at(r)->held_bytes > rule_at(r)->cap_bytes, now_ns);
	return rules;
}

TIERD_HOOK(init)
{
	note_rules();
	return 0;
}

TIERD_HOOK(model_open)
{
	const struct tierd_model *model = tierd_model(call->model);

	if (model)
		note_model(call->model, model);
	return 0;
}

TIERD_HOOK(fault)
{
	const struct tierd_extent *row = tierd_extent(call->extent);
	__u32 extent = call->extent, successor, depth, i;

	if (!row)
		return 0;
	depth = rule_at(decider(touch(extent, row, call->now_ns, call->touch == TIERD_TOUCH_MISSING),
				TIERD_SETS_READ_AHEAD))->read_ahead;
	tierd_for (i, 0, depth) {
		successor = row->expert == TIERD_NO_EXPERT ? row->next : row->sibling;
		row = tierd_extent(successor);
		if (!row || successor == extent || successor == call->extent)
			break;
		extent = successor;
		if (row->state != TIERD_EXTENT_ABSENT)
			continue;
		touch(extent, row, call->now_ns, 0);
		tierd_read_ahead(extent, depth - i);
	}
	return 0;
}

TIERD_HOOK(epoch)
{
	__u32 end = call->extents - cursor > WINDOW ? cursor + WINDOW : call->extents, tier, i;

	moves = 0;
	if (!cursor) {
		start_round(call->now_ns);
		note_tiers();
	}
	tierd_for (i, cursor, end) {
		const struct tierd_extent *row = tierd_extent(i);
		__u64 rules;

		if (!row || row->state != TIERD_EXTENT_RESIDENT)
			continue;
		rules = rules_for(row, idle_at(call->now_ns, row));
		ctx_score(i, rules, in_excess(cap_at(decider(rules, TIERD_SETS_CAP)), row), last_use_ns(row));
		tier = better_tier(rules, row->tier);
		if (tier && moves++ < MOST_MOVES)
			tierd_move(i, tier, 0);
	}
	cursor = end < call->extents ? end : 0;
	return 0;
}
