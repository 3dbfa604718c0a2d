/* Calls what tierd.bpf.h offers to authors, and answers with what came of it. */
#include "tierd.bpf.h"
TIERD_POLICY("GPL");

/* Does the name of model 1, taken as a pattern, match that of model 0? */
TIERD_HOOK(model_open)
{
	const struct tierd_model *name = tierd_model(0), *pattern = tierd_model(1);

	if (!name || !pattern)
		return -1;
	return tierd_glob(pattern->name, name->name);
}

/* The same for tiers 1 and 2, whose names are shorter. */
TIERD_HOOK(tier_change)
{
	const struct tierd_tier_info *name = tierd_tier(1), *pattern = tierd_tier(2);

	if (!name || !pattern)
		return -1;
	return tierd_glob_in(pattern->name, name->name, TIERD_TIER_NAME_BYTES);
}

static int first_in_layer(const struct tierd_model *model, __u32 layer)
{
	__u32 i;

	tierd_for_model (i, model) {
		const struct tierd_extent *row = tierd_extent(i);

		if (row && tierd_in_layer(row, layer))
			return i;
	}
	return -1;
}

/* What walks meet: counts in the words of the marks 0 to 5. */
TIERD_HOOK(epoch)
{
	const struct tierd_model *model = tierd_model(0);
	struct tierd_extent_ctx *layer = tierd_extent_ctx(0), *expert = tierd_extent_ctx(1), *tier = tierd_extent_ctx(2), *loops = tierd_extent_ctx(3);
	__u32 i, j;

	if (!model || !layer || !expert || !tier || !loops)
		return -1;
	tierd_for_model (i, model) {
		const struct tierd_extent *row = tierd_extent(i);

		if (!row)
			continue;
		layer->user[0] += tierd_in_layer(row, 3);
		expert->user[0] += tierd_in_expert(row, 3, 7);
		tier->user[0] += tierd_in_tier(row, 2);
	}
	layer->user[1] = first_in_layer(model, 3);
	expert->user[1] = first_in_layer(model, 99);
	tierd_for (i, 5, 5)
		loops->user[0] += 1000;
	tierd_for (i, 2, 10) {
		if (i == 4)
			continue;
		if (i == 6)
			break;
		tierd_for (j, 0, 3)
			loops->user[0] += i;
	}
	tier->user[1] = tierd_pressure_permille(1);
	loops->user[1] = tierd_pressure_permille(9);
	return 0;
}

const volatile char user[8] = "knob";

/* More lines than an answer holds, and one that is longer than a line. */
TIERD_HOOK(fault)
{
	__u32 i;

	if (call->extent == 1) {
		tierd_log("no arguments");
		tierd_log("%d of %u, %llx, %s", -1, 2, 1ull << 40, "text");
		tierd_log("%s", user);
		tierd_log("0123456789012345678901234567890123456789012345678901234567890123456789"
			  "0123456789012345678901234567890123456789012345678901234567890123456789");
		return 0;
	}
	tierd_for (i, 0, TIERD_MAX_LOG + 4)
		tierd_log("line %u", i);
	return 0;
}
