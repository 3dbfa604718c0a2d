/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
 *
 * tierd_policy.h - the policy ABI: what a placement policy sees of an extent, and the words it answers in.
 *
 * Owns:      the layout of one row of the extent table and the enumerations stored in it.
 * Invariant: fixed widths, no hidden padding, fields are only ever appended; a changed layout bumps
 *            TIERD_ABI_VERSION.
 * Callers:   tierd (C++) writes the fields marked "tierd"; a policy writes the fields marked "policy". Nobody
 *            else writes.
 */
/* BPF sources keep the kernel's style. */
/* clang-format off */
#ifndef TIERD_POLICY_H
#define TIERD_POLICY_H

#ifndef __VMLINUX_H__ /* a BPF program that includes vmlinux.h already has these types */
#include <linux/types.h>
#endif

#ifdef __cplusplus
#define TIERD_ASSERT(cond, why) static_assert(cond, why)
#else
#define TIERD_ASSERT(cond, why) _Static_assert(cond, why)
#endif

#define TIERD_ABI_VERSION 1

#define TIERD_NO_LAYER 0xffffu  /* the extent belongs to no layer (embedding, head, header) */
#define TIERD_NO_EXPERT 0xffffu /* the extent belongs to no single expert */

/* What the weights in an extent do in the model; of several, the one with the most bytes. */
enum tierd_role {
	TIERD_ROLE_OTHER = 0,
	TIERD_ROLE_EMBEDDING = 1,
	TIERD_ROLE_ATTENTION = 2,
	TIERD_ROLE_ROUTER = 3,
	TIERD_ROLE_EXPERT = 4,
	TIERD_ROLE_FEED_FORWARD = 5, /* dense feed-forward, and the experts that every token uses */
	TIERD_ROLE_NORM = 6,
	TIERD_ROLE_HEAD = 7,
	NR_TIERD_ROLES
};

enum tierd_tier {
	TIERD_TIER_NONE = 0, /* in no memory tier: only the origin has it */
	TIERD_TIER_HBM = 1,
	TIERD_TIER_DRAM = 2,
	TIERD_TIER_CXL = 3,
	NR_TIERD_TIERS
};

/* The extent's place in its life. Only tierd changes it. */
enum tierd_extent_state {
	TIERD_EXTENT_ABSENT = 0,   /* no memory; the next touch is a demand miss */
	TIERD_EXTENT_QUEUED = 1,   /* a fill is wanted, its memory not yet granted or its read not yet issued */
	TIERD_EXTENT_FILLING = 2,  /* memory granted, the read is under way */
	TIERD_EXTENT_RESIDENT = 3, /* the bytes are there; sessions may have it mapped */
	TIERD_EXTENT_EVICTING = 4, /* its memory is being returned; touches wait */
	NR_TIERD_EXTENT_STATES
};

enum tierd_extent_flags {
	TIERD_EXTENT_PINNED = 1 << 0,    /* an administrator holds it: never a victim */
	TIERD_EXTENT_UNTOUCHED = 1 << 1, /* resident by read-ahead, not touched since it was filled */
	TIERD_EXTENT_MAPPED = 1 << 2,    /* mapped in at least one session: further touches are not seen */
};

/* One row of the extent table. */
struct tierd_extent {
	__u64 last_touch_ns;      /* tierd: CLOCK_MONOTONIC of the last touch that was seen; 0: never */
	__u64 filled_ns;          /* tierd: CLOCK_MONOTONIC when the bytes last arrived; 0: never */
	__u64 predicted_touch_ns; /* policy: when it expects the next touch; 0: no prediction */
	__u32 model;              /* tierd: number of the weight file's slot; valid while the file is open */
	__u32 index;              /* tierd: which extent of the file, from 0, ascending by offset */
	__u32 bytes;              /* tierd: memory that it takes while resident; extents of one file may differ */
	__u32 heat;               /* tierd: decayed touches, 16.16 fixed point */
	__u32 touches;            /* tierd: touches seen since the file was opened, saturating */
	__u32 fills;              /* tierd: fills since the file was opened, saturating */
	__u16 layer;              /* tierd: from 0, or TIERD_NO_LAYER */
	__u16 expert;             /* tierd: from 0, or TIERD_NO_EXPERT */
	__u8 role;                /* tierd: enum tierd_role */
	__u8 tier;                /* tierd: enum tierd_tier */
	__u8 state;               /* tierd: enum tierd_extent_state */
	__u8 flags;               /* tierd: enum tierd_extent_flags */
	__u32 policy_word;        /* policy: its own; 0 when the file is opened */
	__u32 reserved;           /* 0 */
};
TIERD_ASSERT(sizeof(struct tierd_extent) == 64, "layout is ABI: bump TIERD_ABI_VERSION");

#endif /* TIERD_POLICY_H */
