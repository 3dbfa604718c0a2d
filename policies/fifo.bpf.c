/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
 *
 * fifo.bpf.c - the extent that was filled first is evicted first, whatever is touched since.
 *
 * Why:   the smallest policy there is: an example to copy, a smoke test, and a baseline that any other policy should
 *        beat.
 * Reads: only the fault. Knobs: none.
 */
#include "tierd.bpf.h"

TIERD_POLICY("Dual BSD/GPL");

TIERD_HOOK(fault)
{
	struct tierd_extent_ctx *ctx = tierd_extent_ctx(call->extent);

	if (ctx && call->touch == TIERD_TOUCH_MISSING)
		ctx->score = call->now_ns;
	return 0;
}
