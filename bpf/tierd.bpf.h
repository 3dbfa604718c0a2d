/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
 *
 * tierd.bpf.h - what the author of a policy includes: the tables, ways to walk them, and the types of an answer.
 *
 * Owns:      the maps that tierd shares with a policy, and the helpers below.
 * Invariant: a policy reads rows, models, tiers, GPUs and leases, and writes contexts and its answer. A wrong
 *            value costs speed only: tierd checks every proposal.
 * Callers:   BPF C, compiled with `clang -target bpf -O2 -g`. One call runs at a time, on a thread that no engine
 *            waits for.
 * Fails:     helpers that look something up return NULL if it does not exist; the verifier requires the check.
 *
 * A policy is a file with some of these hooks, in any order; tierd's built-in policy handles the others:
 *
 *   TIERD_HOOK(init)         after loading. Returning non-zero refuses the policy.
 *   TIERD_HOOK(exit)         before it is unloaded.
 *   TIERD_HOOK(model_open)   model          a weight file gained its first session.
 *   TIERD_HOOK(model_close)  model          it lost its last session.
 *   TIERD_HOOK(fault)        extent touch model   a touch was seen, a miss or a first touch in some session.
 *   TIERD_HOOK(epoch)        every epoch (100 ms unless configured).
 *   TIERD_HOOK(admit)        extent from_tier to_tier model   is this read-ahead or move admitted?
 *   TIERD_HOOK(tier_change)  to_tier        a tier was added, removed or resized.
 *   TIERD_HOOK(contend)      gpus leases   every epoch while processes share a GPU: set the priority of leases.
 *
 * All but init and admit return 0; anything else is counted as a fault of the policy. The smallest useful policy:
 *
 *   #include "tierd.bpf.h"
 *   TIERD_POLICY("GPL");
 *   TIERD_HOOK(fault)
 *   {
 *           struct tierd_extent_ctx *ctx = tierd_extent_ctx(call->extent);
 *           if (ctx)
 *                   ctx->score = call->now_ns;
 *           return 0;
 *   }
 */
/* clang-format off */
#ifndef TIERD_BPF_H
#define TIERD_BPF_H

/* Newer kernels' headers have this structure, older ones do not; ours is below, for both. */
#define bpf_iter_num tierd_header_bpf_iter_num
#include <linux/bpf.h>
#undef bpf_iter_num
#include <bpf/bpf_helpers.h>

#include "tierd_policy.h"

/* ---- the object ------------------------------------------------------------------------------------------------ */

/* Names the licence, and the ABI that the object was compiled for. Once a file. */
#define TIERD_POLICY(licence)                                                                                          \
	char tierd_licence[] SEC("license") = licence;                                                                 \
	const __u32 tierd_abi SEC("tierd.abi") = TIERD_ABI_VERSION

#define TIERD_HOOK(hook) SEC("tierd/" #hook) int tierd_##hook(struct tierd_call *call __attribute__((unused)))

/* A number that `tierctl policy load --set name=value` can set before loading. Document its unit, and 0. */
#define TIERD_KNOB(type, name, value) const volatile type name = value

/* ---- the tables ------------------------------------------------------------------------------------------------ */

/* max_entries is set by tierd to what its tables hold. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct tierd_extent);
} tierd_extents SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct tierd_extent_ctx);
} tierd_extent_ctxs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, TIERD_MAX_MODELS);
	__type(key, __u32);
	__type(value, struct tierd_model);
} tierd_models SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, TIERD_MAX_TIERS);
	__type(key, __u32);
	__type(value, struct tierd_tier_info);
} tierd_tiers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, TIERD_MAX_GPUS);
	__type(key, __u32);
	__type(value, struct tierd_gpu);
} tierd_gpus SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, TIERD_MAX_LEASES);
	__type(key, __u32);
	__type(value, struct tierd_lease);
} tierd_leases SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, TIERD_MAX_LEASES);
	__type(key, __u32);
	__type(value, struct tierd_lease_ctx);
} tierd_lease_ctxs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct tierd_answer);
} tierd_answers SEC(".maps");

#define TIERD_INLINE static __always_inline __attribute__((unused))

TIERD_INLINE const struct tierd_extent *tierd_extent(__u32 extent)
{
	return bpf_map_lookup_elem(&tierd_extents, &extent);
}

TIERD_INLINE struct tierd_extent_ctx *tierd_extent_ctx(__u32 extent)
{
	return bpf_map_lookup_elem(&tierd_extent_ctxs, &extent);
}

/* NULL for a slot that is not open. */
TIERD_INLINE const struct tierd_model *tierd_model(__u32 model)
{
	const struct tierd_model *found = bpf_map_lookup_elem(&tierd_models, &model);

	return found && found->extent_count ? found : NULL;
}

/* NULL for a number that is not in use. */
TIERD_INLINE const struct tierd_tier_info *tierd_tier(__u32 tier)
{
	const struct tierd_tier_info *found = bpf_map_lookup_elem(&tierd_tiers, &tier);

	return found && found->capacity_bytes ? found : NULL;
}

/* NULL for a slot that is not in use. */
TIERD_INLINE const struct tierd_gpu *tierd_gpu(__u32 gpu)
{
	const struct tierd_gpu *found = bpf_map_lookup_elem(&tierd_gpus, &gpu);

	return found && found->capacity_bytes ? found : NULL;
}

/* NULL for a slot that is free. */
TIERD_INLINE const struct tierd_lease *tierd_lease(__u32 lease)
{
	const struct tierd_lease *found = bpf_map_lookup_elem(&tierd_leases, &lease);

	return found && found->pid ? found : NULL;
}

TIERD_INLINE struct tierd_lease_ctx *tierd_lease_ctx(__u32 lease)
{
	return bpf_map_lookup_elem(&tierd_lease_ctxs, &lease);
}

/* ---- walking --------------------------------------------------------------------------------------------------- */

/* The kernel's counting iterator (6.4): bounded, and as long as need be. */
struct bpf_iter_num {
	__u64 opaque;
} __attribute__((aligned(8)));
extern int bpf_iter_num_new(struct bpf_iter_num *it, int start, int end) __ksym;
extern int *bpf_iter_num_next(struct bpf_iter_num *it) __ksym;
extern void bpf_iter_num_destroy(struct bpf_iter_num *it) __ksym;

/* for i in [start, end); i is a __u32. `break` and `continue` work; returning from inside works too. */
#define tierd_for(i, start, end)                                                                                       \
	for (struct bpf_iter_num ___it __attribute__((aligned(8), cleanup(bpf_iter_num_destroy))),                     \
	     *___once __attribute__((unused)) = (bpf_iter_num_new(&___it, (start), (end)), (struct bpf_iter_num *)0);  \
	     ({                                                                                                        \
		     int *___next = bpf_iter_num_next(&___it);                                                         \
		     if (___next)                                                                                      \
			     (i) = *___next;                                                                           \
		     ___next;                                                                                          \
	     });)

/* Every extent of an open model; `model` is what tierd_model() returned. */
#define tierd_for_model(i, model) tierd_for (i, (model)->first_extent, (model)->first_extent + (model)->extent_count)

/* Every lease of every GPU; look each up with tierd_lease(), which knows those that are free. */
#define tierd_for_lease(i) tierd_for (i, 0, call->leases)

/* The extents of one layer, one expert, one tier: of what a walk meets, those for which these are true. */
TIERD_INLINE int tierd_in_layer(const struct tierd_extent *row, __u32 layer)
{
	return row->layer == layer;
}

TIERD_INLINE int tierd_in_expert(const struct tierd_extent *row, __u32 layer, __u32 expert)
{
	return row->layer == layer && row->expert == expert;
}

TIERD_INLINE int tierd_in_tier(const struct tierd_extent *row, __u32 tier)
{
	return row->tier == tier && row->state == TIERD_EXTENT_RESIDENT;
}

/* `i` as an index of an array of `n`, a power of two, that the verifier believes: compilers drop a mask that they think
 * is not needed.
 */
#define tierd_index(i, n)                                                                                              \
	({                                                                                                             \
		__u32 ___index = (i);                                                                                  \
		asm volatile("" : "+r"(___index));                                                                     \
		___index & ((n) - 1);                                                                                  \
	})

/* ---- answering ------------------------------------------------------------------------------------------------- */

TIERD_INLINE void tierd_propose(__u32 kind, __u32 extent, __u32 tier, __u32 priority)
{
	__u32 zero = 0;
	struct tierd_answer *answer = bpf_map_lookup_elem(&tierd_answers, &zero);
	__u32 place;

	if (!answer)
		return;
	place = answer->decisions;
	if (place >= TIERD_MAX_DECISIONS) {
		answer->dropped++;
		return;
	}
	answer->decision[place].kind = kind;
	answer->decision[place].extent = extent;
	answer->decision[place].tier = tier;
	answer->decision[place].priority = priority;
	answer->decisions = place + 1;
}

/* Read it before it is touched. Set its score first: memory is taken only from extents of lower score. */
TIERD_INLINE void tierd_read_ahead(__u32 extent, __u32 priority)
{
	tierd_propose(TIERD_READ_AHEAD, extent, TIERD_NO_TIER, priority);
}

/* Drop it now. A low score is the gentler way: it goes when the memory is needed. */
TIERD_INLINE void tierd_evict(__u32 extent)
{
	tierd_propose(TIERD_EVICT, extent, TIERD_NO_TIER, 0);
}

TIERD_INLINE void tierd_move(__u32 extent, __u32 tier, __u32 priority)
{
	tierd_propose(TIERD_MOVE, extent, tier, priority);
}

/* Its next touch will be seen as a MINOR one. Costs about 30 µs: a few an epoch, where it matters. */
TIERD_INLINE void tierd_watch(__u32 extent)
{
	tierd_propose(TIERD_WATCH, extent, TIERD_NO_TIER, 0);
}

/* Keep it in memory: nothing but a demand miss that finds nothing else may take it. */
TIERD_INLINE void tierd_hold(__u32 extent)
{
	struct tierd_extent_ctx *ctx = tierd_extent_ctx(extent);

	if (ctx)
		ctx->score = TIERD_HOLD;
}

/* How full a tier is, 0 .. 1000; 1000 for one that is not there. */
TIERD_INLINE __u32 tierd_pressure_permille(__u32 tier)
{
	const struct tierd_tier_info *info = tierd_tier(tier);

	return info ? info->used_bytes * 1000 / info->capacity_bytes : 1000;
}

/* One line in tierd's log and in `tierctl policy status`; at most TIERD_MAX_LOG a call, cut at TIERD_LOG_BYTES. Numbers
 * are 64 bits wide: %llu, %lld, %llx; %u and %d take their lower half. %s takes a char array of a knob or a row.
 */
#define tierd_log(format, args...)                                                                                     \
	({                                                                                                             \
		__u32 ___zero = 0;                                                                                     \
		struct tierd_answer *___answer = bpf_map_lookup_elem(&tierd_answers, &___zero);                        \
		if (___answer && ___answer->lines < TIERD_MAX_LOG)                                                     \
			BPF_SNPRINTF(___answer->log[___answer->lines++ & (TIERD_MAX_LOG - 1)], TIERD_LOG_BYTES,        \
				     format, ##args);                                                                  \
	})

/* Does a name match a pattern with `*` and `?`? Both are arrays of `bytes` bytes, a power of two, and end in NUL. */
TIERD_INLINE int tierd_glob_in(const char *pattern, const char *name, const __u32 bytes)
{
	const __u32 mask = bytes - 1;
	/* 0, but not as a constant: the verifier would follow each number that these can become. */
	__u32 p = name[mask] & mask, n = p, kept = p, star = bytes, step;

	tierd_for (step, 0, bytes * bytes) {
		char want = pattern[p], have = name[n];

		if (want == '*') {
			star = p;
			kept = n;
			p = (p + 1) & mask;
		} else if (have && (want == have || want == '?')) {
			p = (p + 1) & mask;
			n = (n + 1) & mask;
		} else if (!have) {
			return !want;
		} else if (star < bytes) {
			p = (star + 1) & mask;
			n = kept = (kept + 1) & mask;
		} else {
			return 0;
		}
	}
	return 0;
}

/* A model's name. */
TIERD_INLINE int tierd_glob(const char *pattern, const char *name)
{
	return tierd_glob_in(pattern, name, TIERD_NAME_BYTES);
}

#endif /* TIERD_BPF_H */
