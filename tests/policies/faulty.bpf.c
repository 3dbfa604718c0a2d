/* Fails at each touch. */
#include "tierd.bpf.h"
TIERD_POLICY("GPL");
TIERD_HOOK(fault)
{
	return -1;
}
