/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
 *
 * admission.bpf.c - a move must pay for itself.
 *
 * Why:   moving an extent into faster memory costs bandwidth that readers need too, and is wasted if the extent is
 *        cold again soon. So everything that was touched lately is proposed, and a proposal is admitted only if the
 *        time that its expected touches save exceeds the time that the move takes.
 * Reads: heat, as the number of expected touches; bandwidth and latency of the two tiers. If these are unknown,
 *        everything is admitted. A read-ahead is always admitted: the read is needed anyway.
 */
#include "tierd.bpf.h"
#include "two_tiers.bpf.h"

TIERD_POLICY("Dual BSD/GPL");

/* What a move must save, in percent of what it costs. 0: every move is admitted. */
TIERD_KNOB(__u32, margin_percent, 150);
/* Moves proposed in an epoch. 0: none. */
TIERD_KNOB(__u32, moves, 64);

static __u64 last_epoch_ns;
static __u32 proposed;

/* ns for reading so many bytes there; 0: unknown. */
static __u64 reading_ns(const struct tierd_tier_info *tier, __u32 bytes)
{
	__u64 kib_per_ms = tier->bandwidth_bytes_per_s / 1024000;

	return kib_per_ms ? bytes / 1024 * 1000000ull / kib_per_ms + tier->latency_ns : 0;
}

TIERD_HOOK(fault)
{
	struct tierd_extent_ctx *ctx = tierd_extent_ctx(call->extent);

	if (ctx)
		ctx->score = call->now_ns;
	return 0;
}

TIERD_HOOK(admit)
{
	const struct tierd_extent *row = tierd_extent(call->extent);
	const struct tierd_tier_info *from = tierd_tier(call->from_tier), *to = tierd_tier(call->to_tier);
	__u64 here_ns, there_ns, saved_ns, cost_ns;

	if (!row || !from || !to || from->rank < to->rank)
		return TIERD_ADMIT; /* a read-ahead, or a demotion */
	here_ns = reading_ns(from, row->bytes);
	there_ns = reading_ns(to, row->bytes);
	if (!here_ns || !there_ns)
		return TIERD_ADMIT;
	saved_ns = here_ns > there_ns ? (here_ns - there_ns) * (row->heat >> 8) >> 8 : 0;
	cost_ns = here_ns > there_ns ? here_ns : there_ns;
	return saved_ns * 100 >= cost_ns * margin_percent ? TIERD_ADMIT : TIERD_REFUSE;
}

/* Promotes extents that were touched since the last epoch; demotes those not touched for ten epochs. */
TIERD_HOOK(epoch)
{
	__u64 old_ns = call->now_ns - 10 * (call->now_ns - last_epoch_ns);
	int is_full;
	__u32 i;

	rank_tiers(call->tiers);
	if (!fast || !slow)
		return 0;
	is_full = tierd_pressure_permille(fast) > 950;
	proposed = 0;
	tierd_for (i, 0, call->extents) {
		const struct tierd_extent *row = tierd_extent(i);

		if (!row || row->state != TIERD_EXTENT_RESIDENT)
			continue;
		if (proposed >= 2 * moves)
			break;
		if (row->tier != fast && row->last_touch_ns >= last_epoch_ns) {
			tierd_move(i, fast, row->heat);
			proposed++;
		} else if (row->tier == fast && is_full && row->last_touch_ns < old_ns) {
			tierd_move(i, slow, 0xffffffff);
			proposed++;
		}
	}
	last_epoch_ns = call->now_ns;
	return 0;
}
