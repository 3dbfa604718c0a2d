/* A loop that the verifier can't see an end of. */
#include "tierd.bpf.h"
TIERD_POLICY("GPL");
TIERD_HOOK(epoch)
{
	for (volatile int i = 0; i < 10; i = i)
		;
	return 0;
}
