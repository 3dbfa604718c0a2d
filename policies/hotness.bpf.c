/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
 *
 * hotness.bpf.c - keeps the hottest extents in the fastest memory.
 *
 * Why:   where memory has several speeds (HBM or DRAM before CXL), each touch costs the latency of its tier. How hot
 *        an extent must be for the fastest tier is not known beforehand: the bar is set so that what is above it just
 *        fits. Between the bar and three quarters of it nothing moves, or extents at the edge would move back and
 *        forth.
 * Reads: `heat` of every row once an epoch, decayed to now. Heat from sampling (docs/design.md) is what makes it good:
 *        faults alone show little of what is mapped.
 *
 * The sweep is made for a million rows: it reads a row, compares and continues. It writes only when an extent moves.
 */
#include "tierd.bpf.h"
#include "two_tiers.bpf.h"

TIERD_POLICY("Dual BSD/GPL");

/* Moves proposed in an epoch, into the fastest tier and out of it, each. 0: none. */
TIERD_KNOB(__u32, moves, 64);
/* Age that halves a heat once more, as a power of two of ns: 33 is 8.6 s. 0: heat does not age. */
TIERD_KNOB(__u32, half_life_shift, 33);

#define ONE_TOUCH 65536u

static __u32 bar = ONE_TOUCH; /* from this heat on an extent is hot */
static __u64 hot_bytes;	      /* above the bar, in this sweep */
static __u32 promoted, demoted; /* in this sweep */

/* The bar follows what fits below it: up fast, so that the tier is not overrun, down slowly. */
static void move_bar(__u64 room)
{
	if (hot_bytes > room)
		bar += bar / 2;
	else if (hot_bytes < room - room / 8 && bar > ONE_TOUCH / 16)
		bar -= bar / 8;
}

TIERD_HOOK(fault)
{
	struct tierd_extent_ctx *ctx = tierd_extent_ctx(call->extent);

	if (ctx)
		ctx->score = call->now_ns;
	return 0;
}

static __always_inline void look_at(__u32 extent, __u64 now_ns, int is_full)
{
	const struct tierd_extent *row = tierd_extent(extent);
	__u32 heat;

	if (!row || row->state != TIERD_EXTENT_RESIDENT)
		return;
	heat = half_life_shift ? row->heat >> ((now_ns - row->last_touch_ns) >> half_life_shift & 31) : row->heat;
	if (heat >= bar) {
		hot_bytes += row->bytes;
		if (row->tier != fast && promoted < moves) {
			promoted++;
			tierd_move(extent, fast, heat);
		}
	} else if (heat < bar - bar / 4 && row->tier == fast && is_full && demoted < moves) {
		demoted++;
		tierd_move(extent, slow, ~heat); /* before promotions: it frees the memory for them */
	}
}

TIERD_HOOK(epoch)
{
	const struct tierd_tier_info *tier;
	__u32 i, extents = call->extents;
	__u64 now_ns = call->now_ns;
	int is_full;

	rank_tiers(call->tiers);
	tier = tierd_tier(fast);
	if (!tier || !slow)
		return 0;
	is_full = tierd_pressure_permille(fast) > 900;
	hot_bytes = promoted = demoted = 0;
	tierd_for (i, 0, extents / 4) { /* four at a time: the step of the loop costs as much as a look */
		look_at(4 * i, now_ns, is_full);
		look_at(4 * i + 1, now_ns, is_full);
		look_at(4 * i + 2, now_ns, is_full);
		look_at(4 * i + 3, now_ns, is_full);
	}
	tierd_for (i, extents & ~3u, extents)
		look_at(i, now_ns, is_full);
	move_bar(tier->capacity_bytes);
	return 0;
}
