/* Reads beyond its argument. */
#include "tierd.bpf.h"
TIERD_POLICY("GPL");
TIERD_HOOK(fault)
{
	return ((__u32 *)call)[100] == 7;
}
