/* Does not want to begin. */
#include "tierd.bpf.h"
TIERD_POLICY("GPL");
TIERD_HOOK(init)
{
	tierd_log("this machine has %d tiers", call->tiers);
	return 5;
}
TIERD_HOOK(epoch)
{
	return 0;
}
