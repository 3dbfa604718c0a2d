/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
 *
 * sweep.bpf.c - keep a fixed part of each model, and stream the rest.
 *
 * Why:   a dense model touches all its weights in the same order once per token. What was touched last is needed
 *        last, so a policy that keeps the newest evicts each extent just before its next touch. The optimum is to
 *        keep any fixed set and to read the others every time. The set is spread evenly over the file, so the disk
 *        has the same work between any two kept parts and never idles.
 * Reads: along `next`, as far ahead as half of a small window of memory; only passed extents are evicted for it.
 */
#include "tierd.bpf.h"

TIERD_POLICY("Dual BSD/GPL");

/* The window for what is streamed, in extents of memory; 0: a fortieth of it, 6 to 64. */
TIERD_KNOB(__u32, window, 0);
/* Rows read along a pass to find what to read ahead. 0: nothing is read ahead. */
TIERD_KNOB(__u32, reach, 512);

/* Score: passed extents are evicted first, then those read ahead, kept extents last. */
enum { PASSED = 1, AHEAD = 2 };

static __u32 held_below; /* extents whose key is less are held */
static __u32 depth = 4;	 /* extents read ahead and not yet touched */

/* Multiples of the golden ratio's fraction are spread evenly over 2^32, however many there are. */
static int is_held(__u32 extent)
{
	return extent * 0x9e3779b9u < held_below;
}

/* The share of all open models that fits, without the window. */
static void share_out(const struct tierd_call *call)
{
	__u64 room = 0, wanted = 0, extents = 0, streamed, held = 0xffffffff;
	__u32 i;

	tierd_for (i, 1, call->tiers + 1) {
		const struct tierd_tier_info *tier = tierd_tier(i);

		room += tier && !tier->draining ? tier->capacity_bytes : 0;
	}
	tierd_for (i, 0, call->models) {
		const struct tierd_model *model = tierd_model(i);

		if (model && model->sessions) {
			wanted += model->bytes;
			extents += model->extent_count;
		}
	}
	if (wanted > room && extents) {
		__u64 in_memory = room / (wanted / extents + 1);

		streamed = window ? window : in_memory / 40 < 6 ? 6 : in_memory / 40 > 64 ? 64 : in_memory / 40;
		held = in_memory > streamed ? ((in_memory - streamed) << 32) / extents : 0;
		depth = streamed / 2;
	}
	held_below = held > 0xffffffff ? 0xffffffff : held;
}

static void set_score(__u32 extent, __u64 score)
{
	struct tierd_extent_ctx *ctx = tierd_extent_ctx(extent);

	if (ctx && ctx->score != score)
		ctx->score = score;
}

TIERD_HOOK(model_open)
{
	share_out(call);
	return 0;
}

TIERD_HOOK(fault)
{
	const struct tierd_extent *row = tierd_extent(call->extent);
	__u32 step, extent = call->extent, coming = 0;

	set_score(extent, is_held(extent) ? TIERD_HOLD : PASSED);
	tierd_for (step, 0, reach) {
		if (!row || row->next == extent || row->next == call->extent || coming >= depth)
			break;
		extent = row->next;
		row = tierd_extent(extent);
		if (!row)
			break;
		if (row->state == TIERD_EXTENT_ABSENT) {
			set_score(extent, is_held(extent) ? TIERD_HOLD : AHEAD);
			tierd_read_ahead(extent, reach - step);
			coming++;
		} else if (row->state != TIERD_EXTENT_RESIDENT || row->flags & TIERD_EXTENT_UNTOUCHED) {
			coming++;
		}
	}
	return 0;
}

/* Models open and close, tiers grow and shrink: which extents are kept changes with them. */
TIERD_HOOK(epoch)
{
	__u32 before = held_below, i;

	share_out(call);
	if (held_below == before)
		return 0;
	tierd_for (i, 0, call->extents) {
		const struct tierd_extent *row = tierd_extent(i);

		if (row && row->state == TIERD_EXTENT_RESIDENT)
			set_score(i, is_held(i) ? TIERD_HOLD : PASSED);
	}
	return 0;
}
