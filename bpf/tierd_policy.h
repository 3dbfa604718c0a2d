/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
 *
 * tierd_policy.h - the policy ABI: what a placement policy reads, and how it answers.
 *
 * Owns:      the layout of every record that tierd and a policy share, and the enumerations in them.
 * Invariant: fixed widths, no hidden padding, fields are only ever appended; a changed layout bumps
 *            TIERD_ABI_VERSION, and tierd loads objects of its own version only.
 * Callers:   tierd (C++) and policies (BPF C, through tierd.bpf.h). Each record's comment names its writer;
 *            the verifier refuses a policy that writes any other record.
 *
 * An extent costs 64 bytes: 48 in its row, 16 in its context.
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

#define TIERD_ABI_VERSION 4

#define TIERD_NO_LAYER 0xffffu      /* the extent belongs to no layer (embedding, head, header) */
#define TIERD_NO_EXPERT 0xffffu     /* the extent belongs to no single expert */
#define TIERD_NO_EXTENT 0xffffffffu
#define TIERD_NO_TIER 0u            /* in no memory tier: only the origin has the bytes */

#define TIERD_MAX_TIERS 16          /* numbers 1 to 15 */
#define TIERD_MAX_MODELS 16384
#define TIERD_MAX_GPUS 64
#define TIERD_MAX_LEASES 4096
#define TIERD_MAX_DECISIONS 4096    /* of one call; what a policy proposes beyond is dropped and counted */
#define TIERD_MAX_LOG 16            /* lines of one call */
#define TIERD_LOG_BYTES 120
#define TIERD_NAME_BYTES 64
#define TIERD_TIER_NAME_BYTES 16
#define TIERD_COMMAND_BYTES 16

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

enum tierd_tier_kind {
	TIERD_KIND_NONE = 0,
	TIERD_KIND_HBM = 1,
	TIERD_KIND_DRAM = 2,
	TIERD_KIND_CXL = 3,
	NR_TIERD_KINDS
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
	TIERD_EXTENT_ON_GPU = 1 << 3,   /* bytes of it are in a GPU's memory, as a process last reported */
};

/* One row of the extent table; its number is the extent's. Rows of one weight file are consecutive, ascending by
 * offset. Written by tierd alone. Valid while the row's model is open; a free row is all zero (state ABSENT, bytes 0).
 */
struct tierd_extent {
	__u64 last_touch_ns; /* CLOCK_MONOTONIC of the last touch that was seen; 0: never */
	__u64 filled_ns;     /* CLOCK_MONOTONIC when the bytes last arrived; 0: never */
	__u16 model;         /* slot of its model in the table of models */
	__u16 samples;       /* decayed number of observations behind `heat`, saturating; 0: heat is a guess */
	__u32 bytes;         /* memory that it takes while resident; extents of one file may differ */
	__u32 heat;          /* decayed touches, 16.16 fixed point */
	__u32 touches;       /* touches seen since the file was opened, saturating */
	__u32 next;          /* the extent that a pass through the model touches after this one; itself: none known */
	__u32 sibling;       /* another extent of the same layer and expert, in a ring; itself: it is alone */
	__u16 layer;         /* from 0, or TIERD_NO_LAYER */
	__u16 expert;        /* from 0, or TIERD_NO_EXPERT */
	__u8 role;           /* enum tierd_role */
	__u8 tier;           /* number of the memory tier that holds it, or TIERD_NO_TIER */
	__u8 state;          /* enum tierd_extent_state */
	__u8 flags;          /* enum tierd_extent_flags */
};
TIERD_ASSERT(sizeof(struct tierd_extent) == 48, "layout is ABI: bump TIERD_ABI_VERSION");

/* What a policy keeps with an extent. Written by the policy alone; all zero when it is loaded, and when the row's file
 * is opened.
 *
 * `score` decides victims: when memory is short, the resident extents of the lowest score that are not pinned are
 * evicted first (of equals the one not touched for longest). A read-ahead evicts only extents of lower score than its
 * own.
 * TIERD_HOLD: evicted only for a demand miss that finds no other victim.
 */
struct tierd_extent_ctx {
	__u64 score;
	__u32 user[2]; /* the policy's own */
};
TIERD_ASSERT(sizeof(struct tierd_extent_ctx) == 16, "layout is ABI: bump TIERD_ABI_VERSION");
#define TIERD_HOLD 0xffffffffffffffffull

/* One open weight file, by slot. Written by tierd alone; a free slot has extent_count 0. */
struct tierd_model {
	__u32 first_extent;
	__u32 extent_count;
	__u64 bytes;              /* memory when all of it is resident */
	__u64 resident_bytes;     /* memory it holds now, all tiers together */
	__u64 last_touch_ns;      /* CLOCK_MONOTONIC; 0: never */
	__u64 cgroup;             /* id of the cgroup (version 2) of the session that opened it; 0: unknown */
	__u32 uid;                /* user of that session: the tenant */
	__u32 sessions;           /* that are attached to it now */
	__u32 experts;            /* greatest number of experts in a layer; 0: dense */
	__u32 layers;
	__u32 order_learned;      /* 1: `next` follows a pass that was seen, 0: it follows the file */
	__u32 reserved;           /* 0 */
	char name[TIERD_NAME_BYTES]; /* as `tierctl models` shows it, cut, always ends in NUL */
};
TIERD_ASSERT(sizeof(struct tierd_model) == 128, "layout is ABI: bump TIERD_ABI_VERSION");

/* One memory tier, by number from 1. Written by tierd alone; an unused number has capacity_bytes 0. */
struct tierd_tier_info {
	__u64 capacity_bytes;
	__u64 used_bytes;        /* granted: resident, filling and evicting */
	__u64 bandwidth_bytes_per_s; /* of reading it; 0: unknown */
	__u32 latency_ns;        /* of one load; 0: unknown */
	__u8 kind;               /* enum tierd_tier_kind */
	__u8 rank;               /* 0 is the fastest; ranks rise without gaps */
	__u8 draining;           /* 1: being emptied, nothing may move in */
	__u8 reserved;           /* 0 */
	char name[TIERD_TIER_NAME_BYTES]; /* as `tierctl tiers` shows it, cut, always ends in NUL */
};
TIERD_ASSERT(sizeof(struct tierd_tier_info) == 48, "layout is ABI: bump TIERD_ABI_VERSION");

/* One GPU, by slot: leases share its memory. Written by tierd alone, before each tierd/contend; an
 * unused slot has capacity_bytes 0.
 */
struct tierd_gpu {
	__u64 capacity_bytes; /* that leases may be together */
	__u64 leased_bytes;
	__u32 leases;
	__u32 waiting;        /* of them, those that want more than there is */
	char name[TIERD_TIER_NAME_BYTES]; /* as `tierctl tiers` shows it, cut, always ends in NUL */
};
TIERD_ASSERT(sizeof(struct tierd_gpu) == 40, "layout is ABI: bump TIERD_ABI_VERSION");

/* What one process may have of one GPU's memory, by slot. Written by tierd alone, before each tierd/contend; a free
 * slot has pid 0.
 */
struct tierd_lease {
	__u64 lease_bytes;
	__u64 pinned_bytes;     /* of it, what the process can't give back */
	__u64 requested_bytes;       /* what it waits for; 0: it waits for nothing */
	__u64 waiting_since_ns; /* CLOCK_MONOTONIC; of use while it waits */
	__u64 granted_ns;       /* CLOCK_MONOTONIC when the lease last grew; 0: never */
	__u64 cgroup;           /* id of the process's cgroup (version 2); 0: unknown */
	__u32 pid;
	__u32 uid;
	__u32 gpu;             /* slot */
	__u32 position;         /* in the GPU's queue, from 1; 0: it does not wait */
	char command[TIERD_COMMAND_BYTES]; /* the process's name, cut, always ends in NUL */
};
TIERD_ASSERT(sizeof(struct tierd_lease) == 80, "layout is ABI: bump TIERD_ABI_VERSION");

/* What a policy keeps with a lease, by its slot. Written by the policy alone; all zero when it is loaded, and when the
 * slot goes to another process.
 *
 * `priority` decides who has a GPU when not all fit: of those that wait, the highest is served first (of equals the one
 * that waited longest), and memory is reclaimed from the lowest. None is passed over for longer than eight time slices,
 * whatever its priority, and a lease that works keeps its slice.
 */
struct tierd_lease_ctx {
	__u64 priority;
};
TIERD_ASSERT(sizeof(struct tierd_lease_ctx) == 8, "layout is ABI: bump TIERD_ABI_VERSION");

/* How a touch was seen. */
enum tierd_touch {
	TIERD_TOUCH_MISSING = 0, /* the extent was not resident: a demand miss */
	TIERD_TOUCH_MINOR = 1,   /* it was resident but not mapped in that session */
};

/* The argument of every hook; a hook reads what its line in tierd.bpf.h names. Written by tierd before the call;
 * what a policy writes there is ignored.
 */
struct tierd_call {
	__u64 now_ns;        /* all hooks: CLOCK_MONOTONIC */
	__u64 epoch;         /* all hooks: epochs since the policy was loaded */
	__u32 extents;       /* all hooks: rows in use are 0 .. extents-1 */
	__u32 models;        /* all hooks: slots in use are 0 .. models-1 */
	__u32 tiers;         /* all hooks: numbers in use are 1 .. tiers */
	__u32 gpus;         /* all hooks: slots in use are 0 .. gpus-1 */
	__u32 leases;        /* all hooks: slots in use are 0 .. leases-1 */
	__u32 model;         /* model_open, model_close, fault, admit */
	__u32 extent;        /* fault, admit */
	__u32 touch;         /* fault: enum tierd_touch */
	__u32 from_tier;     /* admit: TIERD_NO_TIER for a read-ahead */
	__u32 to_tier;       /* admit; tier_change: the number that changed */
};
TIERD_ASSERT(sizeof(struct tierd_call) == 56, "layout is ABI: bump TIERD_ABI_VERSION");

/* What tierd/admit returns. */
enum tierd_verdict {
	TIERD_ADMIT = 0,
	TIERD_REFUSE = 1,
	TIERD_DELAY = 2, /* called again in the next epoch */
};

enum tierd_decision_kind {
	TIERD_READ_AHEAD = 1, /* absent → memory (`tier`, or TIERD_NO_TIER for tierd's choice) */
	TIERD_EVICT = 2,      /* memory → nothing */
	TIERD_MOVE = 3,       /* memory tier → memory tier `tier` */
	TIERD_WATCH = 4,      /* let the next touch be seen, though it is mapped; a hint */
};

struct tierd_decision {
	__u32 kind; /* enum tierd_decision_kind */
	__u32 extent;
	__u32 tier;
	__u32 priority; /* greater goes first; of equals in the order of proposing */
};
TIERD_ASSERT(sizeof(struct tierd_decision) == 16, "layout is ABI: bump TIERD_ABI_VERSION");

/* What one call answers. Written by the policy (through the helpers of tierd.bpf.h); tierd sets the counts to 0 before
 * each call and believes nothing in it.
 */
struct tierd_answer {
	__u32 decisions; /* entries in use */
	__u32 dropped;   /* proposed beyond TIERD_MAX_DECISIONS */
	__u32 lines;     /* of log in use */
	__u32 reserved;
	struct tierd_decision decision[TIERD_MAX_DECISIONS];
	char log[TIERD_MAX_LOG][TIERD_LOG_BYTES];
};
TIERD_ASSERT(sizeof(struct tierd_answer) == 16 + 16 * TIERD_MAX_DECISIONS + TIERD_MAX_LOG * TIERD_LOG_BYTES,
	     "layout is ABI: bump TIERD_ABI_VERSION");

#endif /* TIERD_POLICY_H */
