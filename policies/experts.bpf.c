/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
 *
 * experts.bpf.c - for mixtures of experts: hold what every token uses, keep the experts that are wanted often.
 *
 * Why:   routers, attention and shared weights are used by each token, an expert by few. Which experts come is no
 *        order, but it is no accident either: some are popular, and some follow others from one layer to the next.
 * Reads: the other slices of a touched expert at once (gate, up and down lie apart in the file), and the expert that
 *        followed it in the layer after, once that has proved true often enough.
 *
 * Popularity is one number that never has to be aged: a touch counts 2^(now / half_life), and an expert's score is the
 * logarithm of the sum of its touches. So the scores of different times compare as they are.
 */
#include "expert_predictor.bpf.h"

TIERD_POLICY("Dual BSD/GPL");

/* Touches of experts, as seen, after which one counts half. 0: as 1, which is LRU. Dense models count as experts. */
TIERD_KNOB(__u32, half_life, 4096);
/* How much more often than not a successor must have come before it is read ahead. 0: never read ahead. */
TIERD_KNOB(__u32, sure, 16);
/* Experts watched in an epoch: about 30 µs each, and a fault when it is touched. 0: none. */
TIERD_KNOB(__u32, watched, 48);

#define STEP 65536ull	    /* of score: twice the touches */
#define SHARED (1ull << 62) /* what every token of a mixture uses scores higher than this */
#define TOGETHER 16	    /* touches within which an expert's slices count as one */

/* A context's numbers: the count of touches at its expert's last one; 1: the next will be seen. */
enum { COUNTED, WATCHED };

static __u32 touches; /* of experts, as seen */
static __u32 hand, asked; /* the next row to look at for watching; experts watched in this epoch */

/* log2(2^a + 2^b), about. */
static __u64 sum(__u64 a, __u64 b)
{
	__u64 more = a > b ? a : b, apart = (a > b ? a - b : b - a) / STEP;

	return more + (apart < 16 ? STEP >> apart : 0);
}

/* An expert is its slices: what happens to one happens to all. Absent ones are read. Returns the first of them. */
__noinline int raise(__u32 slice, __u64 score, __u32 touched)
{
	__u32 step, next = slice, first = slice;

	tierd_for (step, 0, 64) {
		const struct tierd_extent *row = tierd_extent(next);
		struct tierd_extent_ctx *ctx = tierd_extent_ctx(next);

		if (!row || !ctx)
			break;
		if (ctx->score < score)
			ctx->score = score;
		if (touched) {
			ctx->user[COUNTED] = touches;
			ctx->user[WATCHED] = 0;
		}
		if (row->state == TIERD_EXTENT_ABSENT)
			tierd_read_ahead(next, touched);
		next = row->sibling;
		if (next == slice)
			break;
		if (next < first)
			first = next;
	}
	return first;
}

TIERD_HOOK(fault)
{
	__u32 extent = call->extent;
	const struct tierd_extent *row = tierd_extent(extent);
	struct tierd_extent_ctx *ctx = tierd_extent_ctx(extent);
	const struct tierd_model *model = tierd_model(call->model);
	__u32 next;
	__u64 now;

	if (!row || !ctx || !model)
		return 0;
	if (row->expert == TIERD_NO_EXPERT && model->experts) {
		ctx->score = SHARED + call->now_ns;
		return 0;
	}
	if (ctx->user[COUNTED] && touches - ctx->user[COUNTED] < TOGETHER)
		return 0; /* another slice of it was touched just now */
	now = ++touches * STEP / (half_life ? half_life : 1);
	extent = raise(extent, sum(ctx->score, now), 1);
	next = sure && row->expert != TIERD_NO_EXPERT ? predictor(row, extent, sure) : TIERD_NO_EXTENT;
	if (next != TIERD_NO_EXTENT)
		raise(next, now, 0);
	return 0;
}

/* Touches of what is mapped are not seen. So a hand goes round and has experts in memory watched, by one slice each. */
TIERD_HOOK(epoch)
{
	__u32 step;

	asked = 0;
	tierd_for (step, 0, call->extents) {
		const struct tierd_extent *row = tierd_extent(hand);
		struct tierd_extent_ctx *ctx = tierd_extent_ctx(hand);

		if (asked >= watched)
			break;
		if (row && ctx && row->expert != TIERD_NO_EXPERT && row->sibling <= hand &&
		    row->state == TIERD_EXTENT_RESIDENT && !ctx->user[WATCHED]) {
			ctx->user[WATCHED] = 1;
			tierd_watch(hand);
			asked++;
		}
		hand = hand + 1 < call->extents ? hand + 1 : 0;
	}
	return 0;
}
