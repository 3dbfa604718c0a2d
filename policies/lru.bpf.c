/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
 *
 * lru.bpf.c - the extent not touched for longest is evicted first.
 *
 * Why:   good for models that take turns, and for unknown patterns: what was just used is likely used again. The worst
 *        choice for a model that is swept in a cycle and does not fit: use `sweep` there.
 * Reads: every touch that is seen. Touches of mapped extents are not seen, so a clock hand watches a few extents each
 *        epoch: the next touch of each is seen again.
 */
#include "tierd.bpf.h"

TIERD_POLICY("Dual BSD/GPL");

/* Extents watched in an epoch, about 30 µs each. 0: none. */
TIERD_KNOB(__u32, watched, 16);
/* Rows read in an epoch, to find them. 0: none. */
TIERD_KNOB(__u32, looked_at, 4096);

static __u32 hand; /* the next row to read */

TIERD_HOOK(fault)
{
	struct tierd_extent_ctx *ctx = tierd_extent_ctx(call->extent);

	if (ctx)
		ctx->score = call->now_ns;
	return 0;
}

TIERD_HOOK(epoch)
{
	__u32 step, found = 0;

	tierd_for (step, 0, looked_at) {
		const struct tierd_extent *row = tierd_extent(hand);

		if (found >= watched || step >= call->extents)
			break;
		if (row && row->state == TIERD_EXTENT_RESIDENT && row->flags & TIERD_EXTENT_MAPPED) {
			tierd_watch(hand);
			found++;
		}
		hand = hand + 1 < call->extents ? hand + 1 : 0;
	}
	return 0;
}
