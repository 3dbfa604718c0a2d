/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
 *
 * two_tiers.bpf.h - the two fastest memory tiers, for policies that carry extents up and down between them.
 *
 * Owns:      their numbers.
 * Invariant: a tier that is being emptied is neither; TIERD_NO_TIER where there is none.
 * Callers:   a policy's epoch: rank_tiers(), before it reads the numbers.
 */
/* clang-format off */
#ifndef TIERD_TWO_TIERS_BPF_H
#define TIERD_TWO_TIERS_BPF_H

#include "tierd.bpf.h"

static __u32 fast, slow; /* numbers of the fastest tier, and of the next */

static void rank_tiers(__u32 tiers)
{
	__u32 i;

	fast = slow = TIERD_NO_TIER;
	tierd_for (i, 1, tiers + 1) {
		const struct tierd_tier_info *tier = tierd_tier(i);

		if (tier && !tier->draining && tier->rank == 0)
			fast = i;
		if (tier && !tier->draining && tier->rank == 1)
			slow = i;
	}
}

#endif /* TIERD_TWO_TIERS_BPF_H */
