/* Says that its answer holds more than it can. */
#include "tierd.bpf.h"
TIERD_POLICY("GPL");
TIERD_HOOK(epoch)
{
	__u32 zero = 0;
	struct tierd_answer *answer = bpf_map_lookup_elem(&tierd_answers, &zero);

	if (answer) {
		answer->decisions = 0xffffffff;
		answer->lines = 0xffffffff;
		answer->dropped = 0xffffffff;
	}
	return 0;
}
