// launches.cc - kernels and graphs: what they reach is resident first. See wrappers.h.
#include "cuda_shim/cuda/shim.h"
#include "cuda_shim/cuda/wrappers.h"

namespace tierd::shim::cuda::own {

CUresult cuLaunchKernel(TIERD_CALL(cuLaunchKernel), CUfunction function, unsigned grid_x, unsigned grid_y,
                        unsigned grid_z, unsigned block_x, unsigned block_y, unsigned block_z,
                        unsigned shared_bytes, CUstream stream, void** parameters, void** extra) {
    LaunchScope scope(stream_of(stream, call.per_thread));
    scope.access_parameters(function, parameters, extra);
    if (CUresult refused = scope.enter(); refused != CUDA_SUCCESS) return refused;
    return call.real(function, grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes, stream,
                     parameters, extra);
}

CUresult cuLaunchKernelEx(TIERD_CALL(cuLaunchKernelEx), const CUlaunchConfig* config, CUfunction function,
                          void** parameters, void** extra) {
    LaunchScope scope(stream_of(config != nullptr ? config->hStream : nullptr, call.per_thread));
    scope.access_parameters(function, parameters, extra);
    if (CUresult refused = scope.enter(); refused != CUDA_SUCCESS) return refused;
    return call.real(config, function, parameters, extra);
}

CUresult cuLaunchCooperativeKernel(TIERD_CALL(cuLaunchCooperativeKernel), CUfunction function,
                                   unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                                   unsigned block_y, unsigned block_z, unsigned shared_bytes, CUstream stream,
                                   void** parameters) {
    LaunchScope scope(stream_of(stream, call.per_thread));
    scope.access_parameters(function, parameters, nullptr);
    if (CUresult refused = scope.enter(); refused != CUDA_SUCCESS) return refused;
    return call.real(function, grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes, stream,
                     parameters);
}

CUresult cuGraphLaunch(TIERD_CALL(cuGraphLaunch), CUgraphExec graph, CUstream stream) {
    LaunchScope scope(stream_of(stream, call.per_thread));
    scope.access_graph(graph);
    if (CUresult refused = scope.enter(); refused != CUDA_SUCCESS) return refused;
    return call.real(graph, stream);
}

}  // namespace tierd::shim::cuda::own
