// launch.h - from a launch's arguments to a KernelOp: the parameters are copied when the call is made, as a driver does.
#pragma once

#include "tests/simcuda/driver/operation.h"

namespace simcuda {

struct LaunchShape {
    unsigned grid[3], block[3];
    unsigned shared_bytes;
};

// Errors: CUDA_ERROR_INVALID_HANDLE, CUDA_ERROR_INVALID_VALUE; the limits of the GPU are checked.
CUresult kernel_op(Driver& d, CUfunction handle, const LaunchShape& shape, void** params, void** extra,
                   KernelOp* out);

}  // namespace simcuda
