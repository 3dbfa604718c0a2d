/*
 * migration.pml - extents that are carried between two memory tiers while they are touched and evicted: a model for spin.
 *
 * What it says: the account of each tier (TierTable), a move from its grant to its end (lib/engine/core_moves.cc), the
 * migrator, which carries an extent page by page and may leave it here and there, fills, evictions and a session that
 * touches all the while. State names are those of enum tierd_extent_state. An extent has two pages.
 *
 * What must hold (docs/invariants.md, by number):
 *   1  a session reads whole extents only; nothing is carried that is being released         (asserts in touch and carry)
 *   4  what is really in a tier is accounted for, and no account exceeds its capacity        (assert in look)
 *   2, 5  every touch ends                                                                   (no invalid end state)
 *
 * Each BUG_ seeds one mistake; scripts/check-protocol.sh proves that every one is refuted.
 */
#define EXTENTS 2
#define TIERS   2 /* 0 is the faster one */
#define TOUCHES 3
#define WHIMS   3 /* moves and evictions that nobody needed, and moves that fail */
#define NOWHERE TIERS

mtype = { absent, queued, filling, resident, evicting }; /* enum tierd_extent_state */
mtype = { moved, refused, scattered };                   /* MoveOutcome */

mtype state[EXTENTS] = absent;
byte tier[EXTENTS] = NOWHERE;   /* where the account says it is */
byte page0[EXTENTS] = NOWHERE;  /* where its pages are */
byte page1[EXTENTS] = NOWHERE;
byte used[TIERS];               /* extents granted */
bool reading[EXTENTS], read_done[EXTENTS];
bool punching[EXTENTS], released[EXTENTS];
bool mapped[EXTENTS];           /* the session's page table has it */

bool moving[EXTENTS];           /* Mover::moves_ has it */
byte going_to[EXTENTS];         /* Move::to */
bool then_evict[EXTENTS];
bool not_whole[EXTENTS];
byte other_tier[EXTENTS] = NOWHERE; /* Mover::split_ */
bool handed_over[EXTENTS];      /* the migrator has it */
bool carrying[EXTENTS];
bool arrived[EXTENTS];          /* the migrator's report is in the mailbox */
mtype outcome[EXTENTS];

bool blocked = false;
byte waits_for = EXTENTS;
chan faults = [1] of { byte };
byte whims = 0;

#define pages_in(t) ((page0[0] == t || page1[0] == t) + (page0[1] == t || page1[1] == t))

/* An extent that has a page in a tier counts there whole, as a grant does. One extent fits into each tier. */
inline look() {
	assert(used[0] <= 1 && used[1] <= 1);
	assert(pages_in(0) <= used[0] && pages_in(1) <= used[1])
}

inline settle(e) {
	if :: waits_for == e -> waits_for = EXTENTS; mapped[e] = true; blocked = false :: else fi
}

inline release_memory(e) {
	state[e] = evicting;
	punching[e] = true
}

inline start_eviction(e) {
#ifdef BUG_EVICTED_WHILE_CARRIED
	release_memory(e)
#else
	if
	:: moving[e] -> then_evict[e] = true
	:: !moving[e] -> release_memory(e)
	fi
#endif
}

inline start_move(e, t) {
	going_to[e] = t;
#ifndef BUG_NOT_GRANTED_IN_TARGET
	used[t] = used[t] + 1;
#endif
#ifdef BUG_SOURCE_GIVEN_BACK_AT_START
	used[tier[e]] = used[tier[e]] - 1;
#endif
	moving[e] = true;
	handed_over[e] = true
}

inline on_moved(e) {
	assert(state[e] == resident); /* its eviction waits for this */
	arrived[e] = false;
	moving[e] = false;
	if
	:: outcome[e] == moved ->
#ifndef BUG_SOURCE_GIVEN_BACK_AT_START
		used[tier[e]] = used[tier[e]] - 1;
#endif
#ifdef BUG_NOT_GRANTED_IN_TARGET
		used[going_to[e]] = used[going_to[e]] + 1;
#endif
		tier[e] = going_to[e]
	:: outcome[e] == refused ->
		used[going_to[e]] = used[going_to[e]] - 1
	:: outcome[e] == scattered ->
#ifdef BUG_SCATTERED_GIVEN_BACK
		used[going_to[e]] = used[going_to[e]] - 1;
#else
		other_tier[e] = going_to[e];
#endif
		then_evict[e] = true
	fi;
	if :: then_evict[e] -> then_evict[e] = false; release_memory(e) :: else fi;
	look()
}

inline on_released(e) {
	released[e] = false;
	used[tier[e]] = used[tier[e]] - 1;
	tier[e] = NOWHERE;
	if :: other_tier[e] != NOWHERE -> used[other_tier[e]] = used[other_tier[e]] - 1; other_tier[e] = NOWHERE :: else fi;
	state[e] = absent;
	if :: waits_for == e -> state[e] = queued :: else fi;
	look()
}

inline grant(e, t) {
	used[t] = used[t] + 1;
	tier[e] = t;
	state[e] = filling;
	page0[e] = t;
	page1[e] = t;
	reading[e] = true;
	look()
}

inline on_fault(e) {
	waits_for = e;
	if
	:: state[e] == resident -> settle(e)
	:: state[e] == absent -> state[e] = queued
	:: else
	fi
}

#define EVENTS(e, other) \
	:: atomic { state[e] == queued && used[0] == 0 -> grant(e, 0) } \
	:: atomic { state[e] == queued && used[0] > 0 && used[1] == 0 -> grant(e, 1) } \
	:: atomic { state[e] == queued && used[0] > 0 && used[1] > 0 && state[other] == resident && !then_evict[other] -> start_eviction(other) } \
	:: atomic { read_done[e] -> read_done[e] = false; state[e] = resident; settle(e) } \
	:: atomic { released[e] -> on_released(e) } \
	:: atomic { arrived[e] -> on_moved(e) } \
	:: atomic { state[e] == resident && !moving[e] && tier[e] == 0 && used[1] == 0 && whims < WHIMS -> whims++; start_move(e, 1) } \
	:: atomic { state[e] == resident && !moving[e] && tier[e] == 1 && used[0] == 0 && whims < WHIMS -> whims++; start_move(e, 0) } \
	:: atomic { state[e] == resident && !then_evict[e] && whims < WHIMS -> whims++; start_eviction(e) }

active proctype daemon() {
	byte e;
end:	do
	:: atomic { nempty(faults) -> faults?e; on_fault(e) }
	EVENTS(0, 1)
	EVENTS(1, 0)
	od
}

#define DISK(e)    :: atomic { reading[e] -> reading[e] = false; read_done[e] = true }
#define EVICTOR(e) :: atomic { punching[e] -> punching[e] = false; assert(!carrying[e]); page0[e] = NOWHERE; page1[e] = NOWHERE; \
		mapped[e] = false; released[e] = true }

active proctype disk_and_evictor() {
end:	do
	DISK(0)
	DISK(1)
	EVICTOR(0)
	EVICTOR(1)
	od
}

/* One page, then the other; the second may be refused, and then the first can't always be brought back. */
inline end_move(e, how) {
	outcome[e] = how;
	carrying[e] = false;
	arrived[e] = true;
	look()
}
#define CARRY(e) \
	:: atomic { handed_over[e] && !carrying[e] -> carrying[e] = true; assert(page0[e] != NOWHERE); page0[e] = going_to[e]; look() } \
	:: atomic { carrying[e] -> handed_over[e] = false; assert(page1[e] != NOWHERE); page1[e] = going_to[e]; end_move(e, moved) } \
	:: atomic { carrying[e] && whims < WHIMS -> whims++; handed_over[e] = false; page0[e] = page1[e]; end_move(e, refused) } \
	:: atomic { carrying[e] && whims < WHIMS -> whims++; handed_over[e] = false; end_move(e, scattered) }

active proctype migrator() {
end:	do
	CARRY(0)
	CARRY(1)
	od
}

active proctype engine() {
	byte touches = 0, e;
	do
	:: touches < TOUCHES ->
		select(e : 0 .. EXTENTS - 1);
again:		if
		:: atomic { mapped[e] -> assert(page0[e] != NOWHERE && page1[e] != NOWHERE && !reading[e]); touches++ }
		:: atomic { !mapped[e] -> blocked = true; faults!e };
			!blocked;
			goto again
		fi
	:: touches == TOUCHES -> break
	od
}
