// noop_driver.cc - a libcuda.so.1 whose calls cost nothing: what the preloaded library adds to a launch is all that is left.
//
// Owns:    nothing but the addresses it gives out. Callers: launch_times. Fails: never; it is no model of a GPU.
#define __CUDA_API_VERSION_INTERNAL 1
#include <cuda.h>
#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>

namespace {

constexpr size_t kChunkBytes = 2u << 20;
char a_handle;  // everything that is asked for is this

template <class Handle>
CUresult give(Handle* handle) {
    *handle = reinterpret_cast<Handle>(&a_handle);
    return CUDA_SUCCESS;
}

uint64_t creates = 0;

}  // namespace

extern "C" {

#define EXPORT __attribute__((visibility("default")))

// What cuLaunchKernel is here, under a name that nobody stands before.
EXPORT CUresult noop_launch(CUfunction, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,
                            CUstream, void**, void**) {
    return CUDA_SUCCESS;
}
// How often memory of the GPU was asked for: whether there is elastic memory at all.
EXPORT uint64_t noop_creates() {
    return creates;
}

EXPORT CUresult cuLaunchKernel(CUfunction, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,
                               unsigned, CUstream, void**, void**) {
    return CUDA_SUCCESS;
}
// One parameter, an address.
EXPORT CUresult cuFuncGetParamInfo(CUfunction, size_t index, size_t* offset, size_t* size) {
    if (index > 0) return CUDA_ERROR_INVALID_VALUE;
    *offset = 0;
    *size = sizeof(CUdeviceptr);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuCtxGetCurrent(CUcontext* context) {
    return give(context);
}
EXPORT CUresult cuCtxPushCurrent_v2(CUcontext) {
    return CUDA_SUCCESS;
}
EXPORT CUresult cuCtxPopCurrent_v2(CUcontext* context) {
    return give(context);
}
EXPORT CUresult cuCtxGetDevice(CUdevice* device) {
    *device = 0;
    return CUDA_SUCCESS;
}
EXPORT CUresult cuCtxSynchronize() {
    return CUDA_SUCCESS;
}
EXPORT CUresult cuDeviceTotalMem_v2(size_t* bytes, CUdevice) {
    *bytes = size_t{1} << 30;
    return CUDA_SUCCESS;
}
EXPORT CUresult cuMemGetInfo_v2(size_t* free_bytes, size_t* total_bytes) {
    *free_bytes = *total_bytes = size_t{1} << 30;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuMemAddressReserve(CUdeviceptr* address, size_t bytes, size_t, CUdeviceptr,
                                    unsigned long long) {
    void* at =
        ::mmap(nullptr, bytes + kChunkBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) return CUDA_ERROR_OUT_OF_MEMORY;
    *address = (reinterpret_cast<uintptr_t>(at) + kChunkBytes - 1) / kChunkBytes * kChunkBytes;
    return CUDA_SUCCESS;
}
EXPORT CUresult cuMemAddressFree(CUdeviceptr, size_t) {
    return CUDA_SUCCESS;
}
EXPORT CUresult cuMemCreate(CUmemGenericAllocationHandle* memory, size_t, const CUmemAllocationProp*,
                            unsigned long long) {
    *memory = ++creates;
    return CUDA_SUCCESS;
}
EXPORT CUresult cuMemRelease(CUmemGenericAllocationHandle) {
    return CUDA_SUCCESS;
}
EXPORT CUresult cuMemMap(CUdeviceptr, size_t, size_t, CUmemGenericAllocationHandle, unsigned long long) {
    return CUDA_SUCCESS;
}
EXPORT CUresult cuMemUnmap(CUdeviceptr, size_t) {
    return CUDA_SUCCESS;
}
EXPORT CUresult cuMemSetAccess(CUdeviceptr, size_t, const CUmemAccessDesc*, size_t) {
    return CUDA_SUCCESS;
}
EXPORT CUresult cuMemGetAllocationGranularity(size_t* bytes, const CUmemAllocationProp*,
                                              CUmemAllocationGranularity_flags) {
    *bytes = kChunkBytes;
    return CUDA_SUCCESS;
}
EXPORT CUresult cuMemAlloc_v2(CUdeviceptr* address, size_t bytes) {
    return cuMemAddressReserve(address, bytes, 0, 0, 0);
}
EXPORT CUresult cuMemFree_v2(CUdeviceptr) {
    return CUDA_SUCCESS;
}
EXPORT CUresult cuMemHostAlloc(void** memory, size_t bytes, unsigned) {
    *memory = std::malloc(bytes);
    return *memory != nullptr ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}
EXPORT CUresult cuMemFreeHost(void* memory) {
    std::free(memory);
    return CUDA_SUCCESS;
}
EXPORT CUresult cuMemcpyHtoD_v2(CUdeviceptr, const void*, size_t) {
    return CUDA_SUCCESS;
}
EXPORT CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr, const void*, size_t, CUstream) {
    return CUDA_SUCCESS;
}
EXPORT CUresult cuMemcpyDtoHAsync_v2(void*, CUdeviceptr, size_t, CUstream) {
    return CUDA_SUCCESS;
}

EXPORT CUresult cuStreamCreate(CUstream* stream, unsigned) {
    return give(stream);
}
EXPORT CUresult cuStreamDestroy_v2(CUstream) {
    return CUDA_SUCCESS;
}
EXPORT CUresult cuStreamWaitEvent(CUstream, CUevent, unsigned) {
    return CUDA_SUCCESS;
}
EXPORT CUresult cuStreamSynchronize(CUstream) {
    return CUDA_SUCCESS;
}
EXPORT CUresult cuEventCreate(CUevent* event, unsigned) {
    return give(event);
}
EXPORT CUresult cuEventDestroy_v2(CUevent) {
    return CUDA_SUCCESS;
}
EXPORT CUresult cuEventRecord(CUevent, CUstream) {
    return CUDA_SUCCESS;
}
EXPORT CUresult cuEventQuery(CUevent) {
    return CUDA_SUCCESS;
}
EXPORT CUresult cuEventSynchronize(CUevent) {
    return CUDA_SUCCESS;
}

}  // extern "C"
