/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
 *
 * tierd_rules.h - placement rules as the policy `rules` stores them.
 *
 * Owns:      the layout of one rule, and the name of the array that `tierctl policy build` fills in rules.bpf.o.
 * Invariant: as tierd_policy.h: fixed widths, no hidden padding. A changed layout changes the array's name, so that a
 *            tierctl and an object of different versions can't meet.
 * Callers:   lib/rules (writes) and policies/rules.bpf.c (reads). Constant once the object is made.
 *
 * Rules are in the file's order; the first that sets nothing ends them. For each setting the first rule that matches an
 * extent and sets it decides. The last entry, [default], decides the rest; it matches nothing by itself.
 */
/* clang-format off */
#ifndef TIERD_RULES_H
#define TIERD_RULES_H

#include "tierd_policy.h"

#define TIERD_RULES tierd_rules_v1  /* the array's name: TIERD_MAX_RULES entries of struct tierd_rule */
#define TIERD_MAX_RULES 64          /* with [default] */
#define TIERD_DEFAULT_RULE (TIERD_MAX_RULES - 1)
#define TIERD_RULE_RANGES 8
#define TIERD_DEFAULT_READ_AHEAD 8  /* extents, where nothing else is written */

#define TIERD_ANY_USER 0xffffffffu
#define TIERD_ANY_ROLE 0xffffu
#define TIERD_ANY_HEAT 0xffffffffu

/* What a rule may decide. */
enum tierd_rule_setting {
	TIERD_SETS_PIN = 0,
	TIERD_SETS_EVICT = 1,
	TIERD_SETS_CAP = 2,
	TIERD_SETS_TIER = 3,
	TIERD_SETS_READ_AHEAD = 4,
	NR_TIERD_RULE_SETTINGS
};

/* In which order extents go when memory is short; of one class those not touched for longest. */
enum tierd_evict_class {
	TIERD_EVICT_FIRST = 1,
	TIERD_EVICT_NORMAL = 2,
	TIERD_EVICT_LAST = 3,
};

/* Both ends belong to it; last < first: empty. */
struct tierd_rule_range {
	__u16 first;
	__u16 last;
};

struct tierd_rule {
	/* which extents it is for: all of these must hold */
	char model[TIERD_NAME_BYTES]; /* pattern of the model's name */
	__u64 cgroup;                 /* of the session that opened the model; 0: any */
	__u64 idle_ns;                /* not touched for so long */
	__u32 uid;                    /* of that session, or TIERD_ANY_USER */
	__u32 heat_least;             /* 16.16 fixed point, as in a row */
	__u32 heat_most;
	__u16 roles;                  /* bit 1 << enum tierd_role */
	__u16 sets;                   /* bit 1 << enum tierd_rule_setting; 0: the end of the rules */
	struct tierd_rule_range layers[TIERD_RULE_RANGES];  /* in any; 0 to 0xffff: all, also those without a layer */
	struct tierd_rule_range experts[TIERD_RULE_RANGES]; /* likewise */
	/* what it sets */
	__u64 cap_bytes;              /* above, what it matches loses its pin and goes first, oldest touch first */
	__u32 read_ahead;             /* extents beyond the touched one */
	__u8 pin;                     /* 1: held */
	__u8 evict;                   /* enum tierd_evict_class */
	__u8 tier_kind;               /* enum tierd_tier_kind; 0: by name */
	__u8 reserved;                /* 0 */
	char tier[TIERD_TIER_NAME_BYTES]; /* pattern of the tier's name */
};
TIERD_ASSERT(sizeof(struct tierd_rule) == 192, "layout is ABI: change the name TIERD_RULES");

#endif /* TIERD_RULES_H */
