/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
 *
 * gpus.bpf.c - which processes get a GPU first when not all fit.
 *
 * Why:   without a policy, all processes that share a GPU take turns: a batch job has the same priority as an engine
 *        that serves users. Here processes whose name matches `first` are served before all others and give memory
 *        back last; those that match `last` the other way round. No process waits for ever: see tierd_lease_ctx.
 * Reads: the names of the processes that have leases. It places no extents: the built-in policy does that.
 */
#include "tierd.bpf.h"

TIERD_POLICY("Dual BSD/GPL");

/* Patterns of process names, as `tierctl sessions` shows them, with * and ?; empty: no process. */
const volatile char first[TIERD_COMMAND_BYTES] = "";
const volatile char last[TIERD_COMMAND_BYTES] = "";

TIERD_INLINE int is(const volatile char *pattern, const struct tierd_lease *lease)
{
	const char *text = (const char *)pattern;

	/* It may have been set since it was compiled: without this the compiler would go by what stands above. */
	asm volatile("" : "+r"(text));
	return text[0] && tierd_glob_in(text, lease->command, TIERD_COMMAND_BYTES);
}

TIERD_HOOK(contend)
{
	__u32 i;

	tierd_for_lease (i) {
		const struct tierd_lease *lease = tierd_lease(i);
		struct tierd_lease_ctx *mark = tierd_lease_ctx(i);

		if (lease && mark)
			mark->priority = is(first, lease) ? 2 : is(last, lease) ? 0 : 1;
	}
	return 0;
}
