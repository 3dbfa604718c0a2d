/*
 * lease.pml - two processes share a GPU that holds both or one of them as they need: a model for spin.
 *
 * What it says: the messages of a lease (lib/session/wire.h), each direction a queue of its own, so that a word of tierd's
 * may cross a word of the process's; the books of both sides (lib/gpu/gpu_lease_table.h, cuda_shim/cuda/lease.cc); and the
 * memory that a process really has. Leases share CAPACITY of the GPU; a process that needs more overdraws it when the
 * other has nothing. Who comes first in the queue may change at any moment, as a policy says.
 *
 * What must hold (docs/invariants.md):
 *   4  never more than the capacity in the GPU's memory, but for one that needs it all   (assert in bring)
 *   5  nobody waits for ever                                                              (assert in watch)
 *
 * Each BUG_ seeds one mistake; scripts/check-protocol.sh proves that every one is refuted.
 */
#define CAPACITY 1
#define GPU     2
#define TURNS    2 /* launches of a process that need something */
#define ASKS     1 /* times a process asks how things stand */
#define NONE     9

mtype = { want, ask, holds, grant, reclaim };

chan up[2] = [2] of { mtype, byte /* sequence */, byte };
chan down[2] = [4] of { mtype, byte /* last sequence heard */, byte };

byte needs[2];    /* for the next launch; 0: it computes */
byte resident[2]; /* in the GPU's memory */

proctype process(byte me) {
	byte granted = 0, sequence = 0, came_down = 0, turns = 0, asks = 0, heard, bytes;
	bool said = false;
end:	do
	:: atomic { turns < TURNS && needs[me] == 0 -> turns++; select(bytes : 1 .. GPU); needs[me] = bytes }
	:: atomic { needs[me] > granted && !said && nfull(up[me]) ->
		sequence++;
		said = true;
		up[me]!want, sequence, needs[me] }
	:: atomic { said && asks < ASKS && nfull(up[me]) -> asks++; sequence++; up[me]!ask, sequence, 0 }
	:: atomic { needs[me] > 0 && granted >= needs[me] -> /* bring */
		if :: resident[me] < needs[me] -> resident[me] = needs[me] :: else fi;
		assert(resident[0] + resident[1] <= CAPACITY || resident[0] == 0 || resident[1] == 0);
		needs[me] = 0 }
	:: atomic { down[me]?grant, heard, bytes ->
		if
#ifdef BUG_TAKES_A_GRANT_THAT_CROSSED
		:: true ->
#else
		:: heard < came_down
		:: else ->
#endif
			granted = bytes
		fi;
		if :: granted >= needs[me] -> said = false :: else fi }
	:: atomic { (needs[me] == 0 || granted < needs[me]) && down[me]?[reclaim, heard, bytes] -> /* a lease lasts a slice */
		down[me]?reclaim, heard, bytes;
		sequence++ };
		if :: granted > bytes -> granted = bytes :: else fi;
#ifdef BUG_TELLS_BEFORE_IT_GIVES
		up[me]!holds, sequence, granted;
		if :: resident[me] > granted -> resident[me] = granted :: else fi;
#else
		if :: resident[me] > granted -> resident[me] = granted :: else fi;
		up[me]!holds, sequence, granted;
#endif
		came_down = sequence;
		said = false
	od
}

byte lease[2], wants[2], asked[2], last[2];

/* For who comes first: a grant, or an order to the other. Nothing while an answer is on its way. */
inline serve(who, other) {
	goal = (wants[who] > lease[who] -> wants[who] : lease[who]);
	room = (goal > CAPACITY -> goal : CAPACITY);
	if
	:: goal + lease[other] > room ->
		bytes = goal + lease[other] - room;
		asked[other] = lease[other] - (bytes < lease[other] -> bytes : lease[other]);
		down[other]!reclaim, last[other], asked[other];
#ifdef BUG_LEASES_WHAT_IS_ONLY_ASKED_BACK
		lease[other] = asked[other];
		asked[other] = NONE
#endif
	:: else ->
		lease[who] = goal;
		wants[who] = 0;
		down[who]!grant, last[who], goal
	fi
}

active proctype daemon() {
	mtype kind;
	byte from, sequence, bytes, goal, room;
	asked[0] = NONE;
	asked[1] = NONE;
	run process(0);
	run process(1);
end:	do
	:: atomic {
		if :: nempty(up[0]) -> from = 0 :: nempty(up[1]) -> from = 1 fi;
		up[from]?kind, sequence, bytes;
		last[from] = sequence;
		if
		:: kind == want -> wants[from] = bytes
		:: kind == ask -> down[from]!grant, last[from], lease[from]
		:: kind == holds ->
			if :: bytes < lease[from] -> lease[from] = bytes :: else fi;
			asked[from] = NONE
		fi }
	:: atomic { wants[0] > 0 && asked[0] == NONE && asked[1] == NONE -> serve(0, 1) }
	:: atomic { wants[1] > 0 && asked[0] == NONE && asked[1] == NONE -> serve(1, 0) }
	od
}

active proctype watch() {
end:	timeout -> assert(needs[0] == 0 && needs[1] == 0)
}
