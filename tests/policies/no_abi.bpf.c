/* Names its licence and no version of the ABI. */
#include "tierd.bpf.h"
char tierd_licence[] SEC("license") = "GPL";
TIERD_HOOK(epoch)
{
	return 0;
}
