/* Proposes ten million moves. */
#include "tierd.bpf.h"
TIERD_POLICY("GPL");
TIERD_HOOK(epoch)
{
	__u32 i, j;

	tierd_for (j, 0, 10)
		tierd_for (i, 0, 1000000)
			tierd_move(i, 1, j);
	return 0;
}
