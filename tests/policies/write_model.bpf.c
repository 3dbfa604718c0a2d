/* Changes a model's user: a model's row is tierd's to write. */
#include "tierd.bpf.h"
TIERD_POLICY("GPL");
TIERD_HOOK(epoch)
{
	__u32 zero = 0;
	struct tierd_model *model = bpf_map_lookup_elem(&tierd_models, &zero);

	if (model)
		model->uid = 0;
	return 0;
}
