// queries.cc - what the driver can't know about elastic memory, answered from the tables. See wrappers.h.
#include <string.h>

#include "cuda_shim/cuda/elastic.h"
#include "cuda_shim/cuda/shim.h"
#include "cuda_shim/cuda/wrappers.h"

namespace tierd::shim::cuda {

namespace {

struct Found {
    bool is_elastic = false;
    CUdeviceptr begin = 0;
    uint64_t bytes = 0;
    CUcontext context = nullptr;
    CUdevice device = 0;
    uint64_t number = 0;
};

Found look_up(CUdeviceptr address) {
    Found found;
    if (shim().gate.is_unused()) return found;
    LockGuard guard(shim().lock);
    Gpu& gpu = shim().gpu;
    uint32_t row = gpu.range.find(address);
    if (row == kNone) return found;
    const Allocation& allocation = gpu.range.allocation(row);
    return {true, gpu.range.address_of(allocation.first), allocation.bytes, gpu.context(), gpu.device(), row};
}

template <class T>
CUresult answer(void* data, T value) {
    if (data == nullptr) return CUDA_ERROR_INVALID_VALUE;
    ::memcpy(data, &value, sizeof value);
    return CUDA_SUCCESS;
}

// As the driver answers for memory of cuMemAlloc. Numbers of buffers are ours: far above the driver's.
CUresult attribute_of(const Found& found, void* data, CUpointer_attribute attribute, CUdeviceptr address) {
    constexpr unsigned long long kFirstNumber = 1ull << 48;
    switch (attribute) {
        case CU_POINTER_ATTRIBUTE_CONTEXT:
            return answer(data, found.context);
        case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
            return answer<unsigned>(data, CU_MEMORYTYPE_DEVICE);
        case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
            return answer(data, address);
        case CU_POINTER_ATTRIBUTE_BUFFER_ID:
            return answer(data, kFirstNumber + found.number);
        case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
            return answer<int>(data, found.device);
        case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
            return answer(data, found.begin);
        case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
            return answer<size_t>(data, found.bytes);
        case CU_POINTER_ATTRIBUTE_MAPPED:
            return answer<bool>(data, true);
        case CU_POINTER_ATTRIBUTE_SYNC_MEMOPS:
        case CU_POINTER_ATTRIBUTE_IS_MANAGED:
        case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE:
        case CU_POINTER_ATTRIBUTE_IS_GPU_DIRECT_RDMA_CAPABLE:
            return answer<bool>(data, false);
        case CU_POINTER_ATTRIBUTE_ACCESS_FLAGS:
            return answer<unsigned>(data, CU_POINTER_ATTRIBUTE_ACCESS_FLAG_READWRITE);
        case CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES:
            return answer<unsigned long long>(data, 0);
        case CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE:
            return answer<CUmemoryPool>(data, nullptr);
        default:
            return CUDA_ERROR_INVALID_VALUE;
    }
}

}  // namespace

namespace own {

CUresult cuMemGetInfo_v2(TIERD_CALL(cuMemGetInfo_v2), size_t* free_bytes, size_t* total_bytes) {
    CUresult result = call.real(free_bytes, total_bytes);
    MemoryInfo wanted = shim().config.memory_info;
    if (result != CUDA_SUCCESS || !is_enabled() || wanted == MemoryInfo::real) return result;
    LockGuard guard(shim().lock);
    if (!have_gpu()) return result;
    Gpu& gpu = shim().gpu;
    uint64_t total = wanted == MemoryInfo::lease ? shim().lease.limit_bytes() : gpu.limit_bytes();
    if (shim().config.limit_bytes != 0 && wanted == MemoryInfo::lease) total = shim().config.limit_bytes;
    uint64_t room = gpu.available_bytes(total);
    uint64_t used = gpu.range.bytes_of(gpu.range.allocated_chunks());
    if (room > total) room = total;
    *total_bytes = total;
    *free_bytes = room > used ? room - used : 0;
    return result;
}

CUresult cuMemGetAddressRange_v2(TIERD_CALL(cuMemGetAddressRange_v2), CUdeviceptr* base, size_t* bytes,
                                 CUdeviceptr address) {
    Found found = look_up(address);
    if (!found.is_elastic) return call.real(base, bytes, address);
    if (base != nullptr) *base = found.begin;
    if (bytes != nullptr) *bytes = found.bytes;
    return CUDA_SUCCESS;
}

CUresult cuPointerGetAttribute(TIERD_CALL(cuPointerGetAttribute), void* data, CUpointer_attribute attribute,
                               CUdeviceptr address) {
    Found found = look_up(address);
    return found.is_elastic ? attribute_of(found, data, attribute, address)
                            : call.real(data, attribute, address);
}

CUresult cuPointerGetAttributes(TIERD_CALL(cuPointerGetAttributes), unsigned count,
                                CUpointer_attribute* attributes, void** data, CUdeviceptr address) {
    Found found = look_up(address);
    if (!found.is_elastic) return call.real(count, attributes, data, address);
    if (attributes == nullptr || data == nullptr) return CUDA_ERROR_INVALID_VALUE;
    for (unsigned i = 0; i < count; i++)
        if (CUresult told = attribute_of(found, data[i], attributes[i], address);
            told != CUDA_SUCCESS && attributes[i] == CU_POINTER_ATTRIBUTE_HOST_POINTER)
            answer<void*>(data[i], nullptr);  // the driver's way of saying that there is none
    return CUDA_SUCCESS;
}

CUresult cuPointerSetAttribute(TIERD_CALL(cuPointerSetAttribute), const void* value,
                               CUpointer_attribute attribute, CUdeviceptr address) {
    Found found = look_up(address);
    if (!found.is_elastic) return call.real(value, attribute, address);
    return attribute == CU_POINTER_ATTRIBUTE_SYNC_MEMOPS ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

}  // namespace own

}  // namespace tierd::shim::cuda
