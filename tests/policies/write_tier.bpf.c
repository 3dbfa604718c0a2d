/* Replaces a tier's row through a helper. */
#include "tierd.bpf.h"
TIERD_POLICY("GPL");
TIERD_HOOK(epoch)
{
	__u32 one = 1;
	struct tierd_tier_info info = {.capacity_bytes = ~0ull};

	bpf_map_update_elem(&tierd_tiers, &one, &info, 0);
	return 0;
}
