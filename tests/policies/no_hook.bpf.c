/* Has nothing to call. */
#include "tierd.bpf.h"
TIERD_POLICY("GPL");
