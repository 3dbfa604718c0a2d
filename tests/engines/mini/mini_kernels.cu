// mini_kernels.cu - the mini engine's kernels as PTX, for its driver API program.
#include "mini_kernels.h"
