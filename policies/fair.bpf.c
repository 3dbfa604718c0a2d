/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
 *
 * fair.bpf.c - each tenant its share of memory, and within it each model its own.
 *
 * Why:   among tenants, plain LRU gives memory to the tenant with the most touches: a batch job that sweeps a large
 *        model evicts what the others need again. Here every tenant gets an equal part; what one leaves unused goes
 *        to the others. A tenant above its part loses memory first, its oldest extents first.
 * Reads: the tenant of each model (user, or control group), and how much of it is in memory. Within a model: LRU.
 */
#include "shares.bpf.h"

TIERD_POLICY("Dual BSD/GPL");

#define WITHIN (1ull << 63) /* score of what belongs to a model within its share, and more; time fits below it */

/* By slot. 1: the model holds more than its share. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, TIERD_MAX_MODELS);
	__type(key, __u32);
	__type(value, __u32);
} greedy SEC(".maps");

/* A model changed sides: its rows with it. */
__noinline int move_rows(__u32 slot, __u32 is_greedy)
{
	const struct tierd_model *model = tierd_model(slot);
	__u32 i;

	if (!model)
		return 0;
	tierd_for_model (i, model) {
		struct tierd_extent_ctx *ctx = tierd_extent_ctx(i);

		if (ctx)
			ctx->score = is_greedy ? ctx->score & ~WITHIN : ctx->score | WITHIN;
	}
	return 0;
}

TIERD_HOOK(fault)
{
	__u32 slot = call->model, *over = bpf_map_lookup_elem(&greedy, &slot);
	struct tierd_extent_ctx *ctx = tierd_extent_ctx(call->extent);

	if (ctx && over)
		ctx->score = call->now_ns | (*over ? 0 : WITHIN);
	return 0;
}

TIERD_HOOK(epoch)
{
	__u32 i;

	share_out(call);
	tierd_for (i, 0, call->models) {
		const struct tierd_model *model = tierd_model(i);
		__u32 *over = bpf_map_lookup_elem(&greedy, &i);
		struct tenant *tenant = model ? tenant_of(model) : NULL;
		__u64 share;
		__u32 now;

		if (!tenant || !over)
			continue;
		share = least(level_bytes, tenant->wanted_bytes) / (tenant->models ? tenant->models : 1);
		now = tenant->resident_bytes > level_bytes + level_bytes / 16 && model->resident_bytes > share;
		if (!in_use(model, call->now_ns))
			now = 1; /* nobody uses it: the first to give */
		if (now != *over)
			move_rows(i, now);
		*over = now;
	}
	return 0;
}
