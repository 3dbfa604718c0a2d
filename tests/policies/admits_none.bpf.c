/* Refuses every read-ahead and says nothing else: victims stay the built-in policy's. */
#include "tierd.bpf.h"
TIERD_POLICY("GPL");
TIERD_HOOK(admit)
{
	return call->from_tier == TIERD_NO_TIER ? TIERD_REFUSE : TIERD_ADMIT;
}
