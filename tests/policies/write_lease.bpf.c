/* Gives itself a GPU through a helper. */
#include "tierd.bpf.h"
TIERD_POLICY("GPL");
TIERD_HOOK(contend)
{
	__u32 zero = 0;
	struct tierd_lease lease = {.lease_bytes = ~0ull};

	bpf_map_update_elem(&tierd_leases, &zero, &lease, 0);
	return 0;
}
