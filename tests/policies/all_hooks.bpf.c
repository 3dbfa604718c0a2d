/* Answers every hook, so that a test sees what arrives and what comes back. */
#include "tierd.bpf.h"
TIERD_POLICY("GPL");

TIERD_KNOB(__u32, factor, 3);
TIERD_KNOB(short, offset, -5);
TIERD_KNOB(_Bool, loud, 0);
const volatile char greeting[16] = "hello";

__u64 calls[8];

TIERD_HOOK(init)
{
	tierd_log("%s, factor %d", (__u64)(long)greeting, factor);
	calls[0]++;
	return 0;
}
TIERD_HOOK(exit)
{
	calls[1]++;
	return 0;
}
TIERD_HOOK(model_open)
{
	const struct tierd_model *model = tierd_model(call->model);
	__u32 i;

	if (!model)
		return 1;
	tierd_for_model (i, model)
		tierd_hold(i);
	return 0;
}
TIERD_HOOK(model_close)
{
	return 0;
}
TIERD_HOOK(fault)
{
	struct tierd_extent_ctx *ctx = tierd_extent_ctx(call->extent);
	const struct tierd_extent *row = tierd_extent(call->extent);

	if (!ctx || !row)
		return 1;
	ctx->score = call->now_ns * factor + offset;
	ctx->user[0] = loud;
	tierd_read_ahead(row->next, 1);
	tierd_move(call->extent, 1, 7);
	return 0;
}
TIERD_HOOK(epoch)
{
	__u32 i;

	tierd_for (i, 0, TIERD_MAX_DECISIONS + 10)
		tierd_evict(i);
	return 0;
}
TIERD_HOOK(admit)
{
	return call->to_tier == 2 ? TIERD_REFUSE : TIERD_ADMIT;
}
TIERD_HOOK(tier_change)
{
	return tierd_pressure_permille(call->to_tier);
}
