/* Gives an extent a pin of its own: a row is tierd's to write. */
#include "tierd.bpf.h"
TIERD_POLICY("GPL");
TIERD_HOOK(fault)
{
	struct tierd_extent *row = (struct tierd_extent *)tierd_extent(call->extent);

	if (row)
		row->flags |= TIERD_EXTENT_PINNED;
	return 0;
}
