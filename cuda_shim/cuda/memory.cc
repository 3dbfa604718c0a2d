// memory.cc - allocations: which become elastic, and how they end. See wrappers.h.
#include "cuda_shim/cuda/elastic.h"
#include "cuda_shim/cuda/shim.h"
#include "cuda_shim/cuda/wrappers.h"
#include "cuda_shim/host/log.h"

namespace tierd::shim::cuda {

bool have_gpu() {
    CudaShim& all = shim();
    if (!is_enabled() || all.config.mode == Mode::off ||
        __atomic_load_n(&all.given_up, __ATOMIC_ACQUIRE) != 0)
        return false;
    if (all.gpu.is_set_up()) return all.gpu.is_current();
    if (all.config.limit_bytes == 0 && !all.lease.may_try()) return false;
    if (!all.gpu.set_up()) {
        give_up("the driver lacks what it takes");
        return false;
    }
    bool leased =
        all.lease.start(reinterpret_cast<const unsigned char*>(all.gpu.uuid().bytes), all.gpu.total_bytes());
    if (leased || all.config.limit_bytes != 0) return true;
    all.gpu.tear_down();
    return false;
}

namespace {

// Elastic memory, when the allocation is to be elastic. False: it is the driver's.
bool allocate(CUdeviceptr* address, uint64_t bytes, CUresult* result) {
    if (!is_enabled() || bytes < shim().config.min_bytes || address == nullptr) return false;
    LockGuard guard(shim().lock);
    if (!have_gpu()) return false;
    *result = shim().gpu.allocate(bytes, address);
    return true;
}

// True when the address was the begin of an elastic allocation, or lies in one, which is an error.
bool release(CUdeviceptr address, CUresult* result) {
    if (shim().gate.is_unused()) return false;
    LockGuard guard(shim().lock);
    Gpu& gpu = shim().gpu;
    uint32_t row = gpu.range.find(address);
    if (row == kNone) return false;
    bool is_begin = address == gpu.range.address_of(gpu.range.allocation(row).first);
    *result = is_begin ? gpu.free_allocation(row) : CUDA_ERROR_INVALID_VALUE;
    return true;
}

// The pools that an engine gets without making one: their memory is plain memory of the GPU.
bool is_common_pool(CUmemoryPool pool) {
    CUdevice device = 0;
    CUmemoryPool known = nullptr;
    auto* device_of = TIERD_REAL(cuCtxGetDevice);
    if (device_of == nullptr || device_of(&device) != CUDA_SUCCESS) return false;
    auto* common = TIERD_REAL(cuDeviceGetDefaultMemPool);
    return common != nullptr && common(&known, device) == CUDA_SUCCESS && known == pool;
}

}  // namespace

namespace own {

CUresult cuMemAlloc_v2(TIERD_CALL(cuMemAlloc_v2), CUdeviceptr* address, size_t bytes) {
    CUresult result = CUDA_SUCCESS;
    return allocate(address, bytes, &result) ? result : call.real(address, bytes);
}

CUresult cuMemAllocPitch_v2(TIERD_CALL(cuMemAllocPitch_v2), CUdeviceptr* address, size_t* pitch, size_t width,
                            size_t height, unsigned element_bytes) {
    constexpr uint64_t kPitchStep = 512;  // what the driver gives on every GPU so far
    CUresult result = CUDA_SUCCESS;
    uint64_t row = round_up(width, kPitchStep), bytes = 0;
    bool sound = pitch != nullptr && (element_bytes == 4 || element_bytes == 8 || element_bytes == 16) &&
                 !__builtin_mul_overflow(row, height, &bytes);
    if (!sound || !allocate(address, bytes, &result))
        return call.real(address, pitch, width, height, element_bytes);
    if (result == CUDA_SUCCESS) *pitch = row;
    return result;
}

// Elastic memory is there at once, which is allowed: whoever orders by the stream sees no difference.
CUresult cuMemAllocAsync(TIERD_CALL(cuMemAllocAsync), CUdeviceptr* address, size_t bytes, CUstream stream) {
    CUresult result = CUDA_SUCCESS;
    if (is_enabled() && !driver::is_captured(stream_of(stream, call.per_thread).stream) &&
        allocate(address, bytes, &result))
        return result;
    return call.real(address, bytes, stream);
}

CUresult cuMemAllocFromPoolAsync(TIERD_CALL(cuMemAllocFromPoolAsync), CUdeviceptr* address, size_t bytes,
                                 CUmemoryPool pool, CUstream stream) {
    CUresult result = CUDA_SUCCESS;
    if (is_enabled() && is_common_pool(pool) &&
        !driver::is_captured(stream_of(stream, call.per_thread).stream) && allocate(address, bytes, &result))
        return result;
    return call.real(address, bytes, pool, stream);
}

CUresult cuMemFree_v2(TIERD_CALL(cuMemFree_v2), CUdeviceptr address) {
    CUresult result = CUDA_SUCCESS;
    return release(address, &result) ? result : call.real(address);
}

// What runs on other streams need not have ended, but must have before the memory goes: waiting is right, and late.
CUresult cuMemFreeAsync(TIERD_CALL(cuMemFreeAsync), CUdeviceptr address, CUstream stream) {
    CUresult result = CUDA_SUCCESS;
    return release(address, &result) ? result : call.real(address, stream);
}

}  // namespace own

}  // namespace tierd::shim::cuda
