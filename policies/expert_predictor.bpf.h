/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
 *
 * expert_predictor.bpf.h - predicts the experts of the next layer from those of this layer; learns from touches.
 *
 * Owns:      the map of successors, and which experts were touched in the layer before and in this one.
 * Invariant: a predicted expert followed more often than not, by `sure` at least.
 * Callers:   a policy's fault hook, for each touch of an expert that is seen; experts are named by one of their slices.
 *            If several models are read at once, only consecutive touches of one model are learned from.
 */
/* clang-format off */
#ifndef TIERD_EXPERT_PREDICTOR_BPF_H
#define TIERD_EXPERT_PREDICTOR_BPF_H

#include "tierd.bpf.h"

#define PREDICTOR_MOST 16 /* experts of a layer that are remembered; a power of two */

struct successor {
	__u32 extent;
	__u32 lead; /* how much more often than not it came */
};
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, __u32); /* the expert before */
	__type(value, struct successor);
} successors SEC(".maps");

static __u32 above[PREDICTOR_MOST], here[PREDICTOR_MOST], aboves, heres, taught;
static __u32 model_here, layer_here;

/* A layer begins: each successor's count loses one; it gains two when the successor is touched, so only frequent ones
 * grow. Touches of mapped successors are not seen; their counts stay.
 */
__noinline int begin_layer(__u32 follows)
{
	__u32 i;

	aboves = follows ? heres : 0;
	heres = 0;
	tierd_for (i, 0, aboves) {
		__u32 before = above[i & (PREDICTOR_MOST - 1)] = here[i & (PREDICTOR_MOST - 1)];
		struct successor *known = bpf_map_lookup_elem(&successors, &before);
		const struct tierd_extent *row = known ? tierd_extent(known->extent) : NULL;

		if (row && known->lead && !(row->flags & TIERD_EXTENT_MAPPED))
			known->lead--;
	}
	return 0;
}

/* A successor whose count fell to zero is replaced by one of those that were touched, each in turn. */
__noinline int learn(__u32 after, __u32 sure)
{
	__u32 i;

	taught++;
	tierd_for (i, 0, aboves) {
		__u32 before = above[i & (PREDICTOR_MOST - 1)];
		struct successor *known = bpf_map_lookup_elem(&successors, &before), fresh = {after, 2};

		if (known && known->lead && known->extent == after)
			known->lead += known->lead < 2 * sure ? 2 : 0;
		else if ((!known || !known->lead) && taught * 0x9e3779b9u >> 30 == 0)
			bpf_map_update_elem(&successors, &before, &fresh, BPF_ANY);
	}
	if (heres < PREDICTOR_MOST)
		here[heres++ & (PREDICTOR_MOST - 1)] = after;
	return 0;
}

/* An expert was touched. Returns the predicted one of the next layer, or TIERD_NO_EXTENT if none is certain enough. */
TIERD_INLINE __u32 predictor(const struct tierd_extent *row, __u32 extent, __u32 sure)
{
	struct successor *next;

	if (row->model != model_here || row->layer != layer_here)
		begin_layer(row->model == model_here && row->layer > layer_here);
	model_here = row->model;
	layer_here = row->layer;
	learn(extent, sure);
	next = bpf_map_lookup_elem(&successors, &extent);
	return next && next->lead >= sure ? next->extent : TIERD_NO_EXTENT;
}

#endif /* TIERD_EXPERT_PREDICTOR_BPF_H */
