// wrappers.h - what the generated functions stand on, and the declarations of those written by hand.
//
// Callers:   cuda_wrappers.cc, which generate.py writes.
#pragma once

#include "cuda_shim/cuda/driver.h"
#include "cuda_shim/cuda/graphs.h"
#include "cuda_shim/cuda/launch_scope.h"

#define TIERD_EXPORT __attribute__((visibility("default")))

namespace tierd::shim::cuda {

// The driver's function that a wrapper stands before, and which variant it is.
template <class Function>
struct Call {
    Function* real;
    bool per_thread;
};
#define TIERD_CALL(name) const Call<decltype(::name)>& call

namespace own {

// memory.cc
CUresult cuMemAlloc_v2(TIERD_CALL(cuMemAlloc_v2), CUdeviceptr* address, size_t bytes);
CUresult cuMemAllocPitch_v2(TIERD_CALL(cuMemAllocPitch_v2), CUdeviceptr* address, size_t* pitch, size_t width,
                            size_t height, unsigned element_bytes);
CUresult cuMemAllocAsync(TIERD_CALL(cuMemAllocAsync), CUdeviceptr* address, size_t bytes, CUstream stream);
CUresult cuMemAllocFromPoolAsync(TIERD_CALL(cuMemAllocFromPoolAsync), CUdeviceptr* address, size_t bytes,
                                 CUmemoryPool pool, CUstream stream);
CUresult cuMemFree_v2(TIERD_CALL(cuMemFree_v2), CUdeviceptr address);
CUresult cuMemFreeAsync(TIERD_CALL(cuMemFreeAsync), CUdeviceptr address, CUstream stream);

// queries.cc
CUresult cuMemGetInfo_v2(TIERD_CALL(cuMemGetInfo_v2), size_t* free_bytes, size_t* total_bytes);
CUresult cuMemGetAddressRange_v2(TIERD_CALL(cuMemGetAddressRange_v2), CUdeviceptr* base, size_t* bytes,
                                 CUdeviceptr address);
CUresult cuPointerGetAttribute(TIERD_CALL(cuPointerGetAttribute), void* data, CUpointer_attribute attribute,
                               CUdeviceptr address);
CUresult cuPointerGetAttributes(TIERD_CALL(cuPointerGetAttributes), unsigned count,
                                CUpointer_attribute* attributes, void** data, CUdeviceptr address);
CUresult cuPointerSetAttribute(TIERD_CALL(cuPointerSetAttribute), const void* value,
                               CUpointer_attribute attribute, CUdeviceptr address);

// copies.cc
CUresult cuMemcpyHtoD_v2(TIERD_CALL(cuMemcpyHtoD_v2), CUdeviceptr to, const void* from, size_t bytes);
CUresult cuMemcpyHtoDAsync_v2(TIERD_CALL(cuMemcpyHtoDAsync_v2), CUdeviceptr to, const void* from,
                              size_t bytes, CUstream stream);
CUresult cuMemcpy(TIERD_CALL(cuMemcpy), CUdeviceptr to, CUdeviceptr from, size_t bytes);
CUresult cuMemcpyAsync(TIERD_CALL(cuMemcpyAsync), CUdeviceptr to, CUdeviceptr from, size_t bytes,
                       CUstream stream);
CUresult cuMemcpy2D_v2(TIERD_CALL(cuMemcpy2D_v2), const CUDA_MEMCPY2D* copy);
CUresult cuMemcpy2DUnaligned_v2(TIERD_CALL(cuMemcpy2DUnaligned_v2), const CUDA_MEMCPY2D* copy);
CUresult cuMemcpy2DAsync_v2(TIERD_CALL(cuMemcpy2DAsync_v2), const CUDA_MEMCPY2D* copy, CUstream stream);
CUresult cuMemcpyBatchAsync(TIERD_CALL(cuMemcpyBatchAsync), CUdeviceptr* to, CUdeviceptr* from, size_t* bytes,
                            size_t count, CUmemcpyAttributes* attributes, size_t* attribute_indices,
                            size_t attribute_count, size_t* failed, CUstream stream);
CUresult cuMemcpyBatchAsync_v2(TIERD_CALL(cuMemcpyBatchAsync_v2), CUdeviceptr* to, CUdeviceptr* from,
                               size_t* bytes, size_t count, CUmemcpyAttributes* attributes,
                               size_t* attribute_indices, size_t attribute_count, CUstream stream);

// launches.cc
CUresult cuLaunchKernel(TIERD_CALL(cuLaunchKernel), CUfunction function, unsigned grid_x, unsigned grid_y,
                        unsigned grid_z, unsigned block_x, unsigned block_y, unsigned block_z,
                        unsigned shared_bytes, CUstream stream, void** parameters, void** extra);
CUresult cuLaunchKernelEx(TIERD_CALL(cuLaunchKernelEx), const CUlaunchConfig* config, CUfunction function,
                          void** parameters, void** extra);
CUresult cuLaunchCooperativeKernel(TIERD_CALL(cuLaunchCooperativeKernel), CUfunction function,
                                   unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                                   unsigned block_y, unsigned block_z, unsigned shared_bytes, CUstream stream,
                                   void** parameters);
CUresult cuGraphLaunch(TIERD_CALL(cuGraphLaunch), CUgraphExec graph, CUstream stream);

// contexts.cc
CUresult cuCtxDestroy_v2(TIERD_CALL(cuCtxDestroy_v2), CUcontext context);
CUresult cuCtxDestroy(TIERD_CALL(cuCtxDestroy), CUcontext context);
CUresult cuDevicePrimaryCtxReset_v2(TIERD_CALL(cuDevicePrimaryCtxReset_v2), CUdevice device);
CUresult cuDevicePrimaryCtxReset(TIERD_CALL(cuDevicePrimaryCtxReset), CUdevice device);
CUresult cuDevicePrimaryCtxRelease_v2(TIERD_CALL(cuDevicePrimaryCtxRelease_v2), CUdevice device);
CUresult cuDevicePrimaryCtxRelease(TIERD_CALL(cuDevicePrimaryCtxRelease), CUdevice device);
CUresult cuCtxEnablePeerAccess(TIERD_CALL(cuCtxEnablePeerAccess), CUcontext peer, unsigned flags);
CUresult cuGetProcAddress(TIERD_CALL(cuGetProcAddress), const char* symbol, void** found, int cuda_version,
                          cuuint64_t flags);
CUresult cuGetProcAddress_v2(TIERD_CALL(cuGetProcAddress_v2), const char* symbol, void** found,
                             int cuda_version, cuuint64_t flags, CUdriverProcAddressQueryResult* status);

}  // namespace own

}  // namespace tierd::shim::cuda

using namespace tierd::shim::cuda;
