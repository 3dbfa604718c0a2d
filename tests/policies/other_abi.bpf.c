/* Compiled for a version of the ABI that is not this one. */
#include "tierd.bpf.h"
#undef TIERD_ABI_VERSION
#define TIERD_ABI_VERSION 999
TIERD_POLICY("GPL");
TIERD_HOOK(epoch)
{
	return 0;
}
