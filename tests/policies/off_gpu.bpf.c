/* What stands in a GPU's memory need not stand here too. */
#include "tierd.bpf.h"
TIERD_POLICY("GPL");
TIERD_HOOK(epoch)
{
	__u32 i;

	tierd_for (i, 0, call->extents) {
		const struct tierd_extent *row = tierd_extent(i);

		if (row && row->flags & TIERD_EXTENT_ON_GPU && row->state == TIERD_EXTENT_RESIDENT)
			tierd_evict(i);
	}
	return 0;
}
