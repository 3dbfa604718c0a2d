/* Has a map that would outlive it. */
#include "tierd.bpf.h"
TIERD_POLICY("GPL");
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, __u64);
} mine SEC(".maps");
TIERD_HOOK(epoch)
{
	return 0;
}
