// api_launch.cc - kernel launches.
#define __CUDA_API_VERSION_INTERNAL
#include <cuda.h>

#include "tests/simcuda/driver/entry.h"
#include "tests/simcuda/driver/launch.h"

using namespace simcuda;

namespace {

constexpr Default kLegacy = Default::legacy, kPerThread = Default::per_thread;

struct LaunchCall {
    const char* name;
    Default which;
    CUstream stream;
};

CUresult launch(const LaunchCall& call, CUfunction function, const LaunchShape& shape, void** params,
                void** extra) {
    return on_stream(call.name, call.stream, call.which, [&](Driver& d, Context& c, Stream& s) -> CUresult {
        KernelOp op;
        if (CUresult bad = kernel_op(d, function, shape, params, extra, &op); bad != CUDA_SUCCESS) return bad;
        return submit(d, c, s, std::move(op), nullptr);
    });
}

CUresult launch_ex(const CUlaunchConfig* config, CUfunction function, void** params, void** extra,
                   Default which) {
    LaunchShape shape = {{config->gridDimX, config->gridDimY, config->gridDimZ},
                         {config->blockDimX, config->blockDimY, config->blockDimZ},
                         config->sharedMemBytes};
    return launch({"cuLaunchKernelEx", which, config->hStream}, function, shape, params, extra);
}

}  // namespace

CUresult CUDAAPI cuLaunchKernel(CUfunction f, unsigned int gx, unsigned int gy, unsigned int gz,
                                unsigned int bx, unsigned int by, unsigned int bz, unsigned int shared,
                                CUstream s, void** params, void** extra) {
    return launch({"cuLaunchKernel", kLegacy, s}, f, {{gx, gy, gz}, {bx, by, bz}, shared}, params, extra);
}
CUresult CUDAAPI cuLaunchKernel_ptsz(CUfunction f, unsigned int gx, unsigned int gy, unsigned int gz,
                                     unsigned int bx, unsigned int by, unsigned int bz, unsigned int shared,
                                     CUstream s, void** params, void** extra) {
    return launch({"cuLaunchKernel", kPerThread, s}, f, {{gx, gy, gz}, {bx, by, bz}, shared}, params, extra);
}
CUresult CUDAAPI cuLaunchKernelEx(const CUlaunchConfig* config, CUfunction f, void** params, void** extra) {
    return launch_ex(config, f, params, extra, kLegacy);
}
CUresult CUDAAPI cuLaunchKernelEx_ptsz(const CUlaunchConfig* config, CUfunction f, void** params,
                                       void** extra) {
    return launch_ex(config, f, params, extra, kPerThread);
}
// The threads of a cooperative launch wait for each other, which host functions run one after the other can't.
CUresult CUDAAPI cuLaunchCooperativeKernel(CUfunction, unsigned int, unsigned int, unsigned int, unsigned int,
                                           unsigned int, unsigned int, unsigned int, CUstream, void**) {
    return CUDA_ERROR_NOT_SUPPORTED;
}
CUresult CUDAAPI cuLaunchCooperativeKernel_ptsz(CUfunction, unsigned int, unsigned int, unsigned int,
                                                unsigned int, unsigned int, unsigned int, unsigned int,
                                                CUstream, void**) {
    return CUDA_ERROR_NOT_SUPPORTED;
}
