/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
 *
 * shares.bpf.h - how much memory each tenant may have: equal parts, and what one leaves over goes to the others.
 *
 * Owns:      the table of tenants.
 * Invariant: no tenant may have more than `level_bytes`; what all take together then fits.
 * Callers:   a policy's epoch: share_out(); any hook: tenant_of().
 */
/* clang-format off */
#ifndef TIERD_SHARES_BPF_H
#define TIERD_SHARES_BPF_H

#include "tierd.bpf.h"

/* What a tenant is. 0: a user; 1: a control group. */
TIERD_KNOB(__u32, by_cgroup, 0);

/* Seconds without a touch after which a model wants nothing, until it is touched again. 0: it always does. */
TIERD_KNOB(__u32, idle_s, 10);

#define TENANTS 1024 /* a power of two; tenants that fall on one place share */

struct tenant {
	__u64 wanted_bytes;   /* of its models in use */
	__u64 resident_bytes; /* of all its models */
	__u32 models;	      /* in use */
	__u32 counted;	      /* the step in which it was counted last */
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, TENANTS);
	__type(key, __u32);
	__type(value, struct tenant);
} tenants SEC(".maps");

static __u64 level_bytes; /* the most that any tenant may have */
static __u64 taken_bytes, room_bytes;
static __u32 steps;

TIERD_INLINE struct tenant *tenant_of(const struct tierd_model *model)
{
	__u64 who = by_cgroup ? model->cgroup : model->uid;
	__u32 place = (who ^ who >> 32) & (TENANTS - 1);

	return bpf_map_lookup_elem(&tenants, &place);
}

TIERD_INLINE int in_use(const struct tierd_model *model, __u64 now_ns)
{
	return model->sessions && (!idle_s || now_ns - model->last_touch_ns < idle_s * 1000000000ull);
}

TIERD_INLINE __u64 least(__u64 a, __u64 b)
{
	return a < b ? a : b;
}

__noinline int count_tenants(__u32 models, __u64 now_ns)
{
	__u32 i;

	tierd_for (i, 0, models) {
		const struct tierd_model *model = tierd_model(i);
		struct tenant *tenant = model ? tenant_of(model) : NULL;

		if (tenant)
			tenant->wanted_bytes = tenant->resident_bytes = tenant->models = 0;
	}
	tierd_for (i, 0, models) {
		const struct tierd_model *model = tierd_model(i);
		struct tenant *tenant = model ? tenant_of(model) : NULL;

		if (!tenant)
			continue;
		if (in_use(model, now_ns)) {
			tenant->wanted_bytes += model->bytes;
			tenant->models++;
		}
		tenant->resident_bytes += model->resident_bytes;
	}
	return 0;
}

/* What all tenants take together when none may have more than `level`; each is counted at its first model. */
__noinline int takes(__u32 models, __u64 level)
{
	__u32 i;

	steps++;
	taken_bytes = 0;
	tierd_for (i, 0, models) {
		const struct tierd_model *model = tierd_model(i);
		struct tenant *tenant = model ? tenant_of(model) : NULL;

		if (!tenant || tenant->counted == steps)
			continue;
		tenant->counted = steps;
		taken_bytes += least(tenant->wanted_bytes, level);
	}
	return 0;
}

/* Finds the highest level at which all fit, by halving what it might still be. */
TIERD_INLINE void share_out(const struct tierd_call *call)
{
	__u32 i, bit, models = call->models;

	room_bytes = level_bytes = 0;
	tierd_for (i, 1, call->tiers + 1) {
		const struct tierd_tier_info *tier = tierd_tier(i);

		room_bytes += tier ? tier->capacity_bytes : 0;
	}
	count_tenants(models, call->now_ns);
	tierd_for (bit, 0, 24) {
		__u64 higher = level_bytes + (room_bytes >> (bit + 1 & 31));

		takes(models, higher);
		if (taken_bytes <= room_bytes)
			level_bytes = higher;
	}
}

#endif /* TIERD_SHARES_BPF_H */
