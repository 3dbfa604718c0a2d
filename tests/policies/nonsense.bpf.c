/* Proposes what can't be: extents that are not there, tiers that are full or do not exist, kinds that nobody knows, and
 * for what is there one thing and its contrary.
 */
#include "tierd.bpf.h"
TIERD_POLICY("GPL");

TIERD_HOOK(fault)
{
	tierd_evict(call->extent);
	tierd_read_ahead(call->extent, 9);
	tierd_move(call->extent, 1, 8);
	tierd_move(call->extent, 2, 8);
	tierd_watch(call->extent);
	tierd_evict(call->extent);
	return 0;
}

TIERD_HOOK(epoch)
{
	__u32 i;

	tierd_for (i, 0, 64) {
		tierd_read_ahead(bpf_get_prandom_u32(), i);
		tierd_evict(TIERD_NO_EXTENT - i);
		tierd_move(i, i, 3);
		tierd_move(i, 0x101, 3);
		tierd_evict(i);
		tierd_read_ahead(i, 5);
		tierd_propose(77 + i, i, i, i);
	}
	return 0;
}
