/* Brings an answer of its own, with room for one decision. */
#define tierd_answers hidden_answers
#include "tierd.bpf.h"
#undef tierd_answers
TIERD_POLICY("GPL");
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct tierd_decision);
} tierd_answers SEC(".maps");
TIERD_HOOK(epoch)
{
	return 0;
}
