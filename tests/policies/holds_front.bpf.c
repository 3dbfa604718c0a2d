/* Holds the first extents of each model; the rest is worth what its last miss makes it. */
#include "tierd.bpf.h"
TIERD_POLICY("GPL");
TIERD_KNOB(__u32, held, 8); /* extents of each model */

TIERD_HOOK(model_open)
{
	const struct tierd_model *model = tierd_model(call->model);
	__u32 i;

	if (model)
		tierd_for (i, model->first_extent, model->first_extent + held)
			tierd_hold(i);
	return 0;
}
TIERD_HOOK(fault)
{
	struct tierd_extent_ctx *ctx = tierd_extent_ctx(call->extent);

	if (ctx && ctx->score != TIERD_HOLD)
		ctx->score = call->now_ns;
	return 0;
}
