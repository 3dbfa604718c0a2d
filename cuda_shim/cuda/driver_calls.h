// driver_calls.h - typed calls of the real driver for the code that moves memory. Each is one function of cuda.h, or
// one
// and its undo.
//
// Owns:      nothing.
// Callers:   with the GPU's lock held and its context current, after the set-up has found all functions (driver.h).
// Fails:     with the driver's own error.
#pragma once

#include "cuda_shim/cuda/driver.h"

namespace tierd::shim::cuda::driver {

inline bool ok(CUresult result) {
    return result == CUDA_SUCCESS;
}

// --- contexts
// Null when the thread has none.
inline CUcontext current_context() {
    CUcontext context = nullptr;
    return ok(TIERD_REAL(cuCtxGetCurrent)(&context)) ? context : nullptr;
}
inline CUresult synchronize_context() {
    return TIERD_REAL(cuCtxSynchronize)();
}
// False when the driver gives no figures.
inline bool memory_info(size_t* free_bytes, size_t* total_bytes) {
    auto* ask = TIERD_REAL(cuMemGetInfo_v2);
    return ask != nullptr && ok(ask(free_bytes, total_bytes));
}

// --- streams and events
inline bool create_stream(CUstream* stream) {
    return ok(TIERD_REAL(cuStreamCreate)(stream, CU_STREAM_NON_BLOCKING));
}
inline CUresult synchronize(CUstream stream) {
    return TIERD_REAL(cuStreamSynchronize)(stream);
}
inline bool create_event(CUevent* event) {
    return ok(TIERD_REAL(cuEventCreate)(event, CU_EVENT_DISABLE_TIMING));
}
inline CUresult record(CUevent event, CUstream stream) {
    return TIERD_REAL(cuEventRecord)(event, stream);
}
inline bool has_ended(CUevent event) {
    return ok(TIERD_REAL(cuEventQuery)(event));
}
inline CUresult wait(CUevent event) {
    return TIERD_REAL(cuEventSynchronize)(event);
}
inline CUresult make_wait(CUstream stream, CUevent event) {
    return TIERD_REAL(cuStreamWaitEvent)(stream, event, 0);
}
inline bool is_captured(CUstream stream) {
    CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
    auto* ask = TIERD_REAL(cuStreamIsCapturing);
    return ask != nullptr && ok(ask(stream, &status)) && status != CU_STREAM_CAPTURE_STATUS_NONE;
}

// --- addresses and the memory under them
inline bool reserve(CUdeviceptr* base, uint64_t length_bytes, uint64_t alignment_bytes) {
    return ok(TIERD_REAL(cuMemAddressReserve)(base, length_bytes, alignment_bytes, 0, 0));
}
inline void free_range(CUdeviceptr base, uint64_t length_bytes) {
    TIERD_REAL(cuMemAddressFree)(base, length_bytes);
}
inline CUresult create(CUmemGenericAllocationHandle* memory, uint64_t bytes,
                       const CUmemAllocationProp& kind) {
    return TIERD_REAL(cuMemCreate)(memory, bytes, &kind, 0);
}
inline void release(CUmemGenericAllocationHandle memory) {
    TIERD_REAL(cuMemRelease)(memory);
}
inline void unmap(CUdeviceptr address, uint64_t bytes) {
    TIERD_REAL(cuMemUnmap)(address, bytes);
}
inline CUresult set_access(CUdeviceptr address, uint64_t bytes, CUdevice device) {
    CUmemAccessDesc access{{CU_MEM_LOCATION_TYPE_DEVICE, {device}}, CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
    return TIERD_REAL(cuMemSetAccess)(address, bytes, &access, 1);
}
// Mapped and accessible by the device, or not mapped.
inline CUresult map(CUdeviceptr address, uint64_t bytes, CUmemGenericAllocationHandle memory,
                    CUdevice device) {
    CUresult result = TIERD_REAL(cuMemMap)(address, bytes, 0, memory, 0);
    if (!ok(result)) return result;
    result = set_access(address, bytes, device);
    if (!ok(result)) unmap(address, bytes);
    return result;
}
inline bool allocate(CUdeviceptr* address, uint64_t bytes) {
    return ok(TIERD_REAL(cuMemAlloc_v2)(address, bytes));
}
// Pinned host memory; null: there is none.
inline char* allocate_pinned(uint64_t bytes) {
    void* memory = nullptr;
    return ok(TIERD_REAL(cuMemHostAlloc)(&memory, bytes, CU_MEMHOSTALLOC_PORTABLE))
               ? static_cast<char*>(memory)
               : nullptr;
}

// --- transfers
inline CUresult copy_to_device(CUdeviceptr to, const void* from, uint64_t bytes, CUstream stream) {
    return TIERD_REAL(cuMemcpyHtoDAsync_v2)(to, from, bytes, stream);
}
inline CUresult copy_to_host(void* to, CUdeviceptr from, uint64_t bytes, CUstream stream) {
    return TIERD_REAL(cuMemcpyDtoHAsync_v2)(to, from, bytes, stream);
}
inline CUresult prefetch(CUdeviceptr address, uint64_t bytes, CUmemLocation to, CUstream stream) {
    return TIERD_REAL(cuMemPrefetchAsync_v2)(address, bytes, to, 0, stream);
}
inline CUresult advise(CUdeviceptr address, uint64_t bytes, CUmem_advise advice, CUmemLocation location) {
    return TIERD_REAL(cuMemAdvise_v2)(address, bytes, advice, location);
}

}  // namespace tierd::shim::cuda::driver
