// api_pointer.cc - what an address is. Programs ask this of any pointer, so "none of CUDA's" is an answer, not a mistake.
#define __CUDA_API_VERSION_INTERNAL
#include <cuda.h>

#include <cstring>

#include "tests/simcuda/driver/entry.h"

using namespace simcuda;

namespace {

template <class T>
CUresult give(void* out, T value) {
    std::memcpy(out, &value, sizeof value);
    return CUDA_SUCCESS;
}

bool is_host(const Region& r) {
    return r.kind == Kind::pinned || r.kind == Kind::registered;
}

CUresult attribute(Driver& d, void* out, CUpointer_attribute which, CUdeviceptr address) {
    std::optional<Region> r = d.memory.find(address);
    if (which == CU_POINTER_ATTRIBUTE_RANGE_START_ADDR || which == CU_POINTER_ATTRIBUTE_RANGE_SIZE) {
        // A reservation is a range too, as far as these two are concerned.
        std::optional<Range> whole = d.memory.reservation_of(address);
        if (!whole && r) whole = Range{r->base, r->size_bytes};
        if (!whole) return CUDA_ERROR_INVALID_VALUE;
        return which == CU_POINTER_ATTRIBUTE_RANGE_SIZE
                   ? give<size_t>(out, whole->size_bytes)
                   : give<void*>(out, reinterpret_cast<void*>(whole->base));
    }
    if (which == CU_POINTER_ATTRIBUTE_MAPPED) {
        bool reserved = d.memory.reservation_of(address).has_value();
        if (!r && !reserved) return CUDA_ERROR_INVALID_VALUE;
        return give<unsigned char>(out, r ? 1 : 0);
    }
    if (!r) return CUDA_ERROR_INVALID_VALUE;
    switch (which) {
        case CU_POINTER_ATTRIBUTE_CONTEXT:
            return give<CUcontext>(out, r->context);
        case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
            return give<CUmemorytype>(out, is_host(*r) ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_DEVICE);
        case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
            return give<CUdeviceptr>(out, address);
        case CU_POINTER_ATTRIBUTE_HOST_POINTER:
            if (r->on_device()) return CUDA_ERROR_INVALID_VALUE;
            return give<void*>(out, reinterpret_cast<void*>(address));
        case CU_POINTER_ATTRIBUTE_SYNC_MEMOPS:
            return give<int>(out, 0);
        case CU_POINTER_ATTRIBUTE_BUFFER_ID:
            return give<unsigned long long>(out, r->buffer_id);
        case CU_POINTER_ATTRIBUTE_IS_MANAGED:
            return give<int>(out, r->kind == Kind::managed);
        case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
            return give<int>(out, 0);
        case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE:
            return give<int>(out, 0);
        case CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES:
            return give<uint64_t>(out, 0);
        case CU_POINTER_ATTRIBUTE_IS_GPU_DIRECT_RDMA_CAPABLE:
            return give<int>(out, 0);
        case CU_POINTER_ATTRIBUTE_ACCESS_FLAGS:
            return give<int>(out, r->access == Access::read_write ? CU_POINTER_ATTRIBUTE_ACCESS_FLAG_READWRITE
                                  : r->access == Access::read     ? CU_POINTER_ATTRIBUTE_ACCESS_FLAG_READ
                                                                  : CU_POINTER_ATTRIBUTE_ACCESS_FLAG_NONE);
        case CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE:
            return give<CUmemoryPool>(out, r->pool);
        case CU_POINTER_ATTRIBUTE_MAPPING_SIZE:
            return give<size_t>(out, r->size_bytes);
        case CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR:
            return give<void*>(out, reinterpret_cast<void*>(r->base));
        case CU_POINTER_ATTRIBUTE_MEMORY_BLOCK_ID:
            return give<unsigned long long>(out, r->buffer_id);
        default:
            return CUDA_ERROR_NOT_SUPPORTED;
    }
}

}  // namespace

CUresult CUDAAPI cuPointerGetAttribute(void* out, CUpointer_attribute which, CUdeviceptr address) {
    return entry("cuPointerGetAttribute", [&](Driver& d) { return attribute(d, out, which, address); });
}
// Unlike the single question, this one answers with zeros for an address that CUDA does not know.
CUresult CUDAAPI cuPointerGetAttributes(unsigned int count, CUpointer_attribute* which, void** out,
                                        CUdeviceptr address) {
    return entry("cuPointerGetAttributes", [&](Driver& d) {
        for (unsigned i = 0; i < count; ++i) {
            bool wide = which[i] != CU_POINTER_ATTRIBUTE_MEMORY_TYPE &&
                        which[i] != CU_POINTER_ATTRIBUTE_IS_MANAGED &&
                        which[i] != CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL &&
                        which[i] != CU_POINTER_ATTRIBUTE_SYNC_MEMOPS;
            if (attribute(d, out[i], which[i], address) == CUDA_SUCCESS) continue;
            if (which[i] == CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL)
                give<int>(out[i], -2);
            else if (wide && which[i] != CU_POINTER_ATTRIBUTE_MAPPED)
                give<uint64_t>(out[i], 0);
            else if (wide)
                give<unsigned char>(out[i], 0);
            else
                give<int>(out[i], 0);
        }
        return CUDA_SUCCESS;
    });
}
CUresult CUDAAPI cuPointerSetAttribute(const void*, CUpointer_attribute which, CUdeviceptr address) {
    return entry("cuPointerSetAttribute", [&](Driver& d) -> CUresult {
        if (which != CU_POINTER_ATTRIBUTE_SYNC_MEMOPS || !d.memory.find(address))
            return CUDA_ERROR_INVALID_VALUE;
        return CUDA_SUCCESS;  // copies and fills of the legacy stream are waited for by all that comes after them anyway
    });
}
