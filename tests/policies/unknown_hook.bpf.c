/* Misspells a hook. */
#include "tierd.bpf.h"
TIERD_POLICY("GPL");
TIERD_HOOK(epoche)
{
	return 0;
}
