/* Wants a gigabyte for itself. */
#include "tierd.bpf.h"
TIERD_POLICY("GPL");
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 8 << 20);
	__type(key, __u32);
	__type(value, __u64);
} mine SEC(".maps");
TIERD_HOOK(epoch)
{
	return 0;
}
