/* Says for which ABI it is, and not under which licence. */
#include "tierd.bpf.h"
const __u32 tierd_abi SEC("tierd.abi") = TIERD_ABI_VERSION;
TIERD_HOOK(epoch)
{
	return 0;
}
