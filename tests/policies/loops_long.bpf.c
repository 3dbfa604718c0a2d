/* Stays in one epoch for seconds: nothing can end it from outside, so nobody may wait for it. */
#include "tierd.bpf.h"
TIERD_POLICY("GPL");
TIERD_KNOB(__u32, rounds, 800); /* about 2 ms each */
__u64 turns;

TIERD_HOOK(epoch)
{
	__u32 round, i;

	tierd_for (round, 0, rounds)
		tierd_for (i, 0, 1000000)
			turns += i;
	return 0;
}
