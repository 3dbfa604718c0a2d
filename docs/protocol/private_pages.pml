/*
 * private_pages.pml - a private writable range goes back to the kernel's mapping while a thread writes into it: a model for
 * spin.
 *
 * What it says: what the page table of the range holds, page by page; the client's writes; tierd, which maps pages of the
 * arena; and the way back of cuda_shim/host/private_pages.cc, step by step, with everything else free to run between two steps.
 * A CONTINUE of an absent page gives a page that can be written, whatever was protected before: so no page may appear
 * while the shim looks for the client's own ones.
 *
 * What must hold (docs/invariants.md):
 *   1  no write is lost: what the client wrote is never replaced by the file      (assert in replace)
 *   2, 5  the writer is never left waiting                                        (no invalid end state)
 *
 * Each BUG_ seeds one mistake; scripts/check-protocol.sh proves that every one is refuted.
 */
#define PAGES  2
#define WRITES 3

/* A page of the range. `own`: the client's private copy. `file`: the kernel's mapping, whose writes are the kernel's. */
mtype = { absent, arena, arena_protected, own, own_protected, file };

mtype page[PAGES] = absent;
bool blocked = false;          /* the writer sleeps in a fault */
chan faults = [1] of { byte }; /* missing or minor; a fault of a protected page is left to the shim */
chan order = [1] of { bit };
bool cut = false;              /* tierd has forgotten the range */
bool alive = true, hung = false, overslept = false;
bool leaves_by_itself = false; /* the shim breaks off: the engine asked for what an arena can't give */
bool told_tierd = false;
bool let_go = false;           /* tierd closed its end of the command channel */

active proctype writer() {
	byte writes = 0, p;
	do
	:: writes < WRITES ->
		select(p : 0 .. PAGES - 1);
again:		if
		:: atomic { page[p] == arena || page[p] == own -> page[p] = own; writes++ }
		:: atomic { page[p] == file -> writes++ }
		:: atomic { page[p] == absent -> blocked = true; faults!p };
			!blocked;
			goto again
		:: atomic { page[p] == arena_protected || page[p] == own_protected -> blocked = true };
			!blocked;
			goto again
		fi
	:: writes == WRITES -> break
	od
}

inline map_page(p) {
	if :: page[p] == absent -> page[p] = arena :: else fi
}

active proctype daemon() {
	byte p;
end:	do
	:: atomic { alive && !hung && nempty(faults) -> faults?p;
		if
#ifdef BUG_TIERD_MAPS_WHILE_LEAVING
		:: true ->
#else
		:: cut || overslept
		:: !cut && !overslept ->
#endif
			map_page(p);
			blocked = false
		fi }
	/* ahead of touches */
#ifndef BUG_TIERD_MAPS_WHILE_LEAVING
	:: atomic { alive && !hung && !cut && !overslept && page[0] == absent -> map_page(0) }
#else
	:: atomic { alive && !hung && page[0] == absent -> map_page(0) }
#endif
	:: atomic { alive && !hung && !cut && !leaves_by_itself -> cut = true; order!0 }
	:: atomic { alive && !hung && told_tierd && !let_go -> cut = true; let_go = true }
	od
}

active proctype shim() {
	bool is_own[PAGES];
end:	if
	:: order?_
	:: !alive
	:: hung
	:: leaves_by_itself = true;
		told_tierd = true;
#ifndef BUG_DOES_NOT_WAIT_FOR_TIERD
		(let_go || !alive || hung)
#endif
	fi;
#ifdef BUG_LOOK_BEFORE_PROTECT
	is_own[0] = (page[0] == own);
	is_own[1] = (page[1] == own);
#endif
#ifndef BUG_NO_WRITE_PROTECT
	atomic { /* UFFDIO_WRITEPROTECT */
		if :: page[0] == arena -> page[0] = arena_protected :: page[0] == own -> page[0] = own_protected :: else fi;
		if :: page[1] == arena -> page[1] = arena_protected :: page[1] == own -> page[1] = own_protected :: else fi
	}
#endif
#ifndef BUG_LOOK_BEFORE_PROTECT
	is_own[0] = (page[0] == own || page[0] == own_protected); /* pagemap, page by page */
	is_own[1] = (page[1] == own || page[1] == own_protected);
#endif
	if
	:: atomic { !is_own[0] -> assert(page[0] != own && page[0] != own_protected); page[0] = file }
	:: else
	fi;
	if
	:: atomic { !is_own[1] -> assert(page[1] != own && page[1] != own_protected); page[1] = file }
	:: else
	fi;
#ifndef BUG_OWN_PAGES_STAY_PROTECTED
	if :: page[0] == own_protected -> page[0] = own :: else fi; /* UFFDIO_UNREGISTER */
	if :: page[1] == own_protected -> page[1] = own :: else fi;
#endif
#ifndef BUG_FORGETS_TO_WAKE
	blocked = false
#else
	skip
#endif
}

/* tierd dies; or hangs, and may wake later: then it has overslept, and knows. */
active proctype world() {
	if
	:: alive = false
	:: hung = true;
#ifdef BUG_OVERSLEPT_UNNOTICED
		hung = false
#else
		atomic { hung = false; overslept = true }
#endif
	:: skip
	fi
}
