/* Uses what a lookup returned without asking whether it found anything. */
#include "tierd.bpf.h"
TIERD_POLICY("GPL");
TIERD_HOOK(fault)
{
	struct tierd_extent_ctx *ctx = tierd_extent_ctx(call->extent);

	ctx->score = 1; /* the line that the complaint must name */
	return 0;
}
