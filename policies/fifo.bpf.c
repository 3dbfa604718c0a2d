/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
 *
 * fifo.bpf.c - what came first goes first, whatever is touched since.
 *
 * Why:   the smallest policy there is: an example to copy from, a smoke test, and a baseline that any other should beat.
 * Reads: nothing but the fault. Knobs: none.
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
