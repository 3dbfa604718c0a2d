// api_vmm.cc - virtual memory management: addresses, memory and access each on their own.
#define __CUDA_API_VERSION_INTERNAL
#include <cuda.h>

#include "tests/simcuda/driver/entry.h"

using namespace simcuda;

namespace {

bool is_gpu_memory(const CUmemAllocationProp& p) {
    return p.type == CU_MEM_ALLOCATION_TYPE_PINNED && p.location.type == CU_MEM_LOCATION_TYPE_DEVICE &&
           p.location.id == 0;
}

CUresult refuse_flags(unsigned long long flags) {
    if (flags == 0) return CUDA_SUCCESS;
    return misuse(CUDA_ERROR_INVALID_VALUE, "flags must be 0, not {}", flags);
}

}  // namespace

CUresult CUDAAPI cuMemGetAllocationGranularity(size_t* bytes, const CUmemAllocationProp* properties,
                                               CUmemAllocationGranularity_flags) {
    return entry("cuMemGetAllocationGranularity", [&](Driver& d) -> CUresult {
        if (!properties || !is_gpu_memory(*properties)) return CUDA_ERROR_NOT_SUPPORTED;
        *bytes = d.memory.granularity_bytes();
        return CUDA_SUCCESS;
    });
}
CUresult CUDAAPI cuMemAddressReserve(CUdeviceptr* out, size_t bytes, size_t alignment, CUdeviceptr hint,
                                     unsigned long long flags) {
    return entry("cuMemAddressReserve", [&](Driver& d) -> CUresult {
        if (CUresult bad = refuse_flags(flags); bad != CUDA_SUCCESS) return bad;
        uint64_t base = 0;
        CUresult result = d.memory.reserve(bytes, alignment, hint, &base);
        if (result == CUDA_SUCCESS) *out = base;
        return result;
    });
}
CUresult CUDAAPI cuMemAddressFree(CUdeviceptr base, size_t bytes) {
    return entry("cuMemAddressFree", [&](Driver& d) { return d.memory.unreserve(base, bytes); });
}
CUresult CUDAAPI cuMemCreate(CUmemGenericAllocationHandle* out, size_t bytes,
                             const CUmemAllocationProp* properties, unsigned long long flags) {
    return entry("cuMemCreate", [&](Driver& d) -> CUresult {
        if (CUresult bad = refuse_flags(flags); bad != CUDA_SUCCESS) return bad;
        if (!properties || !is_gpu_memory(*properties)) return CUDA_ERROR_NOT_SUPPORTED;
        if (properties->requestedHandleTypes != CU_MEM_HANDLE_TYPE_NONE) return CUDA_ERROR_NOT_SUPPORTED;
        uint64_t handle = 0;
        CUresult result = d.memory.create(bytes, *properties, &handle);
        if (result != CUDA_SUCCESS) return result;
        ++d.counters.creates;
        *out = handle;
        return CUDA_SUCCESS;
    });
}
CUresult CUDAAPI cuMemRelease(CUmemGenericAllocationHandle handle) {
    return entry("cuMemRelease", [&](Driver& d) { return d.memory.drop(handle); });
}
CUresult CUDAAPI cuMemRetainAllocationHandle(CUmemGenericAllocationHandle* out, void* address) {
    return entry("cuMemRetainAllocationHandle", [&](Driver& d) {
        uint64_t handle = 0;
        CUresult result = d.memory.retain(reinterpret_cast<uint64_t>(address), &handle);
        if (result == CUDA_SUCCESS) *out = handle;
        return result;
    });
}
CUresult CUDAAPI cuMemGetAllocationPropertiesFromHandle(CUmemAllocationProp* out,
                                                        CUmemGenericAllocationHandle handle) {
    return entry("cuMemGetAllocationPropertiesFromHandle",
                 [&](Driver& d) { return d.memory.properties_of(handle, out); });
}
CUresult CUDAAPI cuMemMap(CUdeviceptr base, size_t bytes, size_t offset, CUmemGenericAllocationHandle handle,
                          unsigned long long flags) {
    return entry("cuMemMap", [&](Driver& d) -> CUresult {
        if (CUresult bad = refuse_flags(flags); bad != CUDA_SUCCESS) return bad;
        if (offset) return misuse(CUDA_ERROR_INVALID_VALUE, "offset must be 0, not {}", offset);
        CUresult result = d.memory.map(base, bytes, handle);
        if (result == CUDA_SUCCESS) ++d.counters.maps;
        return result;
    });
}
CUresult CUDAAPI cuMemUnmap(CUdeviceptr base, size_t bytes) {
    return entry("cuMemUnmap", [&](Driver& d) {
        CUresult result = d.memory.unmap(base, bytes);
        if (result == CUDA_SUCCESS) ++d.counters.unmaps;
        return result;
    });
}
CUresult CUDAAPI cuMemSetAccess(CUdeviceptr base, size_t bytes, const CUmemAccessDesc* access, size_t count) {
    return entry("cuMemSetAccess", [&](Driver& d) -> CUresult {
        if (count != 1) return misuse(CUDA_ERROR_INVALID_VALUE, "{} locations; there is one device", count);
        if (access->location.type != CU_MEM_LOCATION_TYPE_DEVICE || access->location.id != 0)
            return CUDA_ERROR_INVALID_DEVICE;
        switch (access->flags) {
            case CU_MEM_ACCESS_FLAGS_PROT_NONE:
                return d.memory.set_access(base, bytes, Access::none);
            case CU_MEM_ACCESS_FLAGS_PROT_READ:
                return d.memory.set_access(base, bytes, Access::read);
            case CU_MEM_ACCESS_FLAGS_PROT_READWRITE:
                return d.memory.set_access(base, bytes, Access::read_write);
            default:
                return misuse(CUDA_ERROR_INVALID_VALUE, "access {}", static_cast<int>(access->flags));
        }
    });
}
CUresult CUDAAPI cuMemGetAccess(unsigned long long* out, const CUmemLocation* location, CUdeviceptr address) {
    return entry("cuMemGetAccess", [&](Driver& d) -> CUresult {
        if (location->type != CU_MEM_LOCATION_TYPE_DEVICE || location->id != 0)
            return CUDA_ERROR_INVALID_DEVICE;
        Access access = Access::none;
        CUresult result = d.memory.access_of(address, &access);
        *out = access == Access::none   ? CU_MEM_ACCESS_FLAGS_PROT_NONE
               : access == Access::read ? CU_MEM_ACCESS_FLAGS_PROT_READ
                                        : CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
        return result;
    });
}
CUresult CUDAAPI cuMemExportToShareableHandle(void*, CUmemGenericAllocationHandle, CUmemAllocationHandleType,
                                              unsigned long long) {
    return CUDA_ERROR_NOT_SUPPORTED;
}
CUresult CUDAAPI cuMemImportFromShareableHandle(CUmemGenericAllocationHandle*, void*,
                                                CUmemAllocationHandleType) {
    return CUDA_ERROR_NOT_SUPPORTED;
}
