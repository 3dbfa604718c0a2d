/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
 *
 * admission.bpf.c - a move must pay for itself.
 *
 * Why:   bringing an extent into faster memory costs bandwidth that readers need too, and an extent that is soon cold
 *        again was carried for nothing. So everything that was touched lately is proposed, and each proposal must show
 *        that the time it will save, as often as it is expected to be touched, is more than the time it takes.
 * Reads: heat, as the number of touches to come while it lasts; bandwidth and latency of the two tiers. Where these are
 *        unknown nothing can be reckoned, and everything is admitted. A read-ahead is a read that is needed anyway.
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
		return TIERD_ADMIT; /* a read-ahead, or making room */
	here_ns = reading_ns(from, row->bytes);
	there_ns = reading_ns(to, row->bytes);
	if (!here_ns || !there_ns)
		return TIERD_ADMIT;
	saved_ns = here_ns > there_ns ? (here_ns - there_ns) * (row->heat >> 8) >> 8 : 0;
	cost_ns = here_ns > there_ns ? here_ns : there_ns;
	return saved_ns * 100 >= cost_ns * margin_percent ? TIERD_ADMIT : TIERD_REFUSE;
}

/* Who was touched since the last epoch wants to come up; who was not for ten of them makes room. */
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
