/* simcuda_kernel.h - how a shared object offers kernels to the simulated CUDA driver. C and C++.
 *
 * A kernel named NAME is one exported object called `simcuda_kernel_NAME` (C linkage): what its parameters look like, and
 * a host function that does what the kernel does. The driver finds it by that name, so a module needs no constructor and
 * no table. For C++ there is simcuda_export.h, which writes the object from the function's own type.
 *
 * `run` is called on a thread of the driver, once a launch. `params[i]` points to a copy of parameter i that is good until
 * `run` returns. It may only touch device memory, managed memory and pinned host memory, and may not call CUDA.
 */
#ifndef SIMCUDA_KERNEL_H
#define SIMCUDA_KERNEL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SIMCUDA_KERNEL_ABI 1u

struct simcuda_param {
    uint32_t offset_bytes; /* in the parameter block, as cuFuncGetParamInfo reports it */
    uint32_t size_bytes;
};

struct simcuda_launch {
    uint32_t grid[3];
    uint32_t block[3];
    uint32_t
        shared_bytes; /* dynamic shared memory of one block; `shared` is that long, the same for every block */
    uint32_t pad0;    /* 0 */
    void* shared;
};

struct simcuda_kernel {
    uint32_t abi;         /* SIMCUDA_KERNEL_ABI */
    uint32_t param_count; /* entries in params */
    const struct simcuda_param* params;
    void (*run)(const struct simcuda_launch* launch, void** params);
};

#ifdef __cplusplus
}
#endif

#endif
