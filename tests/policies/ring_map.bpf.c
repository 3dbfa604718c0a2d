/* Has a map of a kind that speaks to processes. */
#include "tierd.bpf.h"
TIERD_POLICY("GPL");
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} mine SEC(".maps");
TIERD_HOOK(epoch)
{
	return 0;
}
