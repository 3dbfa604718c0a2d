// mini_kernels.cc - the mini engine's kernels as host functions, for the simulated GPU (SIMCUDA_KERNELS).
#include "tests/simcuda/simcuda_export.h"
//
#include "tests/engines/mini/mini_kernels.h"

SIMCUDA_EXPORT(mini_layer);
SIMCUDA_EXPORT(mini_embed);
SIMCUDA_EXPORT(mini_keep);
