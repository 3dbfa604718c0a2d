/*
 * extent.pml - the life of extents under two sessions, one daemon and one disk: a model for spin.
 *
 * What it says: an extent's states and who changes them (lib/engine/core.cc, kMay), the account of memory
 * (MemoryTier), faults, fills, evictions, the way back to the kernel's mapping (cuda_shim/host), a file that changes, a
 * read that fails, a daemon that dies or hangs. State names are those of enum tierd_extent_state.
 *
 * What must hold (docs/invariants.md, by number):
 *   1  a session reads through the arena only whole bytes of the generation that it attached to     (assert in touch)
 *   4  memory in use never exceeds the tier's capacity                                              (assert in grant)
 *   2, 5  nobody waits for ever: every touch ends                                    (no invalid end state: a blocked
 *         reader can't reach its end)
 *   7  after the change was noticed nothing of the file is published any more                       (assert in publish)
 *
 * Whatever happens by somebody's whim (evictions by the policy, errors, the change, the death) happens a bounded number
 * of times, so a lost wake-up shows as a deadlock and needs no fairness.
 *
 * Each BUG_ below, given with -D, seeds one mistake that is easily made; scripts/check-protocol.sh proves that every
 * one of them is refuted.
 */
#define SESSIONS 2
#define EXTENTS  2
#define CAPACITY 1 /* extents */
#define TOUCHES  2 /* by each session */
#define WHIMS    2 /* evictions that nobody needed */

mtype = { absent, queued, filling, resident, evicting };   /* enum tierd_extent_state */
mtype = { hole, partial, old_bytes, new_bytes };           /* what stands in the arena */
mtype = { on_arena, on_file };                             /* what stands over the session's addresses */

mtype state[EXTENTS] = absent;
mtype arena[EXTENTS] = hole;
byte used = 0;                 /* MemoryTier: extents granted */
bool punching[EXTENTS];        /* handed to the evictor */
bool released[EXTENTS];        /* the evictor's report is in the mailbox */
bool reading[EXTENTS];         /* the disk works on it */
bool read_done[EXTENTS];       /* the completion is in the ring */
bool half_was_old[EXTENTS];    /* the generation of the first half that was read */
bool read_failed[EXTENTS];

bool file_is_new = false;      /* somebody wrote to the file */
bool changed = false;          /* WeightFile::changed: tierd knows */

mtype over[SESSIONS] = on_arena;
bool pte0[SESSIONS], pte1[SESSIONS]; /* the session's page table has extent 0, 1 */
bool blocked[SESSIONS];        /* its toucher sleeps in a fault */
chan faults[SESSIONS] = [1] of { byte };
chan orders[SESSIONS] = [1] of { bit };
bool cut[SESSIONS];            /* tierd has forgotten the region: the order is sent */
byte waits_for[SESSIONS] = EXTENTS; /* tierd's list of waiters: the extent, or EXTENTS for none */

bool alive = true, hung = false;
byte whims = 0;

#define daemon_runs (alive && !hung)
#define pte(s, e)   ((e == 0 && pte0[s]) || (e == 1 && pte1[s]))
#define in_memory   ((arena[0] != hole) + (arena[1] != hole))

inline set_pte(s, e) { if :: e == 0 -> pte0[s] = true :: else -> pte1[s] = true fi }
inline clear_ptes_of(e) {
	if :: e == 0 -> pte0[0] = false; pte0[1] = false :: else -> pte1[0] = false; pte1[1] = false fi
}

/* ---- the daemon: one thread, each step a whole event --------------------------------------------------------- */

inline command_fall_back(s) {
	if
	:: !cut[s] -> cut[s] = true; orders[s]!0
	:: else
	fi;
	waits_for[s] = EXTENTS
}

/* UFFDIO_CONTINUE and the wake that goes with it. */
inline continue_extent(s, e) {
	if
	:: over[s] == on_arena && arena[e] != hole -> set_pte(s, e)
	:: else
	fi;
	blocked[s] = false
}

inline settle_waiters(e) {
	if :: waits_for[0] == e -> waits_for[0] = EXTENTS; if :: !cut[0] -> continue_extent(0, e) :: else fi :: else fi;
	if :: waits_for[1] == e -> waits_for[1] = EXTENTS; if :: !cut[1] -> continue_extent(1, e) :: else fi :: else fi
}

inline abandon(e) {
	if :: state[e] == queued -> state[e] = absent :: else fi;
	if :: waits_for[0] == e -> command_fall_back(0) :: else fi;
	if :: waits_for[1] == e -> command_fall_back(1) :: else fi
}

inline release_memory(e) {
#ifdef BUG_ABSENT_BEFORE_PUNCH
	state[e] = absent;
	used = used - 1;
#else
	state[e] = evicting;
#endif
#ifdef BUG_GIVE_BACK_BEFORE_PUNCH
	used = used - 1;
#endif
	punching[e] = true
}

inline mark_changed() {
	if
	:: !changed ->
		changed = true;
		command_fall_back(0);
		command_fall_back(1);
		if :: state[0] == resident -> release_memory(0) :: else fi;
		if :: state[1] == resident -> release_memory(1) :: else fi
	:: else
	fi
}

inline grant(e) {
	used = used + 1;
	state[e] = filling;
	arena[e] = partial;
	assert(in_memory <= CAPACITY);
	reading[e] = true;
	half_was_old[e] = !file_is_new;
#ifdef BUG_CONTINUE_BEFORE_READ
	settle_waiters(e)
#endif
}

inline on_read(e) {
	read_done[e] = false;
	if
#ifndef BUG_NO_IDENTITY_CHECK
	:: file_is_new -> mark_changed(); release_memory(e); abandon(e)
	:: !file_is_new && read_failed[e] -> release_memory(e); abandon(e)
	:: !file_is_new && !read_failed[e] ->
#else
	:: read_failed[e] -> release_memory(e); abandon(e)
	:: !read_failed[e] ->
#endif
		assert(!changed);
		state[e] = resident;
#ifndef BUG_WAITERS_FORGOTTEN_AT_PUBLISH
		settle_waiters(e)
#endif
	fi
}

inline on_fault(s, e) {
	if
	:: cut[s]                                  /* leaving: the shim wakes who waits */
	:: !cut[s] && changed -> command_fall_back(s)
	:: !cut[s] && !changed && state[e] == resident -> continue_extent(s, e)
	:: !cut[s] && !changed && state[e] == absent -> waits_for[s] = e; state[e] = queued
#ifdef BUG_FAULT_ON_FILLING_DROPPED
	:: !cut[s] && !changed && state[e] == filling
	:: !cut[s] && !changed && (state[e] == queued || state[e] == evicting) -> waits_for[s] = e
#else
	:: !cut[s] && !changed && state[e] != resident && state[e] != absent -> waits_for[s] = e
#endif
	fi
}

inline on_released(e) {
	released[e] = false;
#ifndef BUG_ABSENT_BEFORE_PUNCH
#ifndef BUG_GIVE_BACK_BEFORE_PUNCH
	used = used - 1;
#endif
	state[e] = absent;
	if
	:: changed -> abandon(e)
#ifndef BUG_WAITERS_FORGOTTEN_AT_RELEASE
	:: !changed && (waits_for[0] == e || waits_for[1] == e) -> state[e] = queued
#endif
	:: else
	fi
#endif
}

/* What the daemon may do about extent e; only what there is to do, so that a daemon with nothing to do blocks. */
#define EVENTS(e, other) \
	:: atomic { daemon_runs && state[e] == queued && used < CAPACITY -> grant(e) } \
	/* no room: the other one goes, if it may */ \
	:: atomic { daemon_runs && state[e] == queued && used == CAPACITY && state[other] == resident -> release_memory(other) } \
	:: atomic { daemon_runs && read_done[e] && state[e] == filling -> on_read(e) } \
	:: atomic { daemon_runs && released[e] -> on_released(e) } \
	:: atomic { daemon_runs && state[e] == resident && whims < WHIMS -> whims++; release_memory(e) }

active proctype daemon() {
	byte e;
end:	do
	:: atomic { daemon_runs && nempty(faults[0]) -> faults[0]?e; on_fault(0, e) }
	:: atomic { daemon_runs && nempty(faults[1]) -> faults[1]?e; on_fault(1, e) }
	EVENTS(0, 1)
	EVENTS(1, 0)
	:: atomic { daemon_runs && file_is_new && !changed -> mark_changed() } /* inotify */
#ifdef BUG_FILLING_IS_EVICTED
	:: atomic { daemon_runs && state[0] == filling && whims < WHIMS -> whims++; release_memory(0) }
#endif
#ifdef BUG_EVICTED_TWICE
	:: atomic { daemon_runs && state[0] == evicting && !released[0] && whims < WHIMS -> whims++; used = used - 1 }
#endif
	od
}

/* Punching a hole unmaps it from every session, in one system call. */
active proctype evictor() {
end:	do
	:: atomic { alive && punching[0] -> punching[0] = false; arena[0] = hole; clear_ptes_of(0); released[0] = true }
	:: atomic { alive && punching[1] -> punching[1] = false; arena[1] = hole; clear_ptes_of(1); released[1] = true }
	od
}

/* The second half arrives. Bytes of two generations, or with a hole between them, are no bytes of any file. */
inline finish_read(e) {
	reading[e] = false;
	if
	:: arena[e] == partial && half_was_old[e] && !file_is_new -> arena[e] = old_bytes
	:: arena[e] == partial && !half_was_old[e] -> arena[e] = new_bytes
	:: else -> arena[e] = partial
	fi;
	if :: read_failed[e] = false :: whims < WHIMS -> whims++; read_failed[e] = true; arena[e] = partial fi;
	read_done[e] = true
}

active proctype disk() {
end:	do
	:: atomic { alive && reading[0] -> finish_read(0) }
	:: atomic { alive && reading[1] -> finish_read(1) }
	od
}

/* ---- the sessions --------------------------------------------------------------------------------------------- */

/* mmap(MAP_FIXED) of the file, then UFFDIO_WAKE. */
inline fall_back(s) {
	over[s] = on_file;
	pte0[s] = false;
	pte1[s] = false;
#ifndef BUG_FALL_BACK_WITHOUT_WAKE
	blocked[s] = false
#endif
}

proctype shim(byte s) {
	bool left = false;
end:	do
	:: atomic { !left && nempty(orders[s]) -> orders[s]?_; left = true; fall_back(s) }
#ifndef BUG_DEATH_IS_NOT_NOTICED
	:: atomic { !left && !alive -> left = true; fall_back(s) } /* the command channel closed */
#endif
#ifndef BUG_HANG_IS_NOT_NOTICED
	:: atomic { !left && hung -> left = true; fall_back(s) }   /* the heartbeat stopped */
#endif
	od
}

proctype engine(byte s) {
	byte touches = 0, e;
	do
	:: touches < TOUCHES ->
		select(e : 0 .. EXTENTS - 1);
again:		if
		:: atomic { over[s] == on_file -> touches++ }  /* the kernel's mapping: right by definition */
		:: atomic { over[s] == on_arena && pte(s, e) ->
			assert(arena[e] == old_bytes);
			touches++ }
		:: atomic { over[s] == on_arena && !pte(s, e) -> blocked[s] = true; faults[s]!e };
			!blocked[s];
			goto again
		fi
	:: touches == TOUCHES -> break
	od
}

/* ---- what may befall them ------------------------------------------------------------------------------------- */

active proctype world() {
	if
	:: file_is_new = true
	:: alive = false
	:: hung = true
	:: atomic { file_is_new = true; alive = false }
	:: skip
	fi
}

init {
	atomic {
		run shim(0); run shim(1);
		run engine(0); run engine(1)
	}
}
