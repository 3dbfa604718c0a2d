// api_managed.cc - managed memory, advice and prefetches.
#define __CUDA_API_VERSION_INTERNAL
#include <cuda.h>

#include <cstring>

#include "tests/simcuda/driver/entry.h"
#include "tests/simcuda/driver/operation.h"

using namespace simcuda;

namespace {

constexpr Default kLegacy = Default::legacy, kPerThread = Default::per_thread;

CUresult refuse_unmanaged(Driver& d, CUdeviceptr address, size_t bytes) {
    std::optional<Region> region = d.memory.find(address);
    bool inside = region && region->kind == Kind::managed && address + bytes <= region->end() && bytes > 0;
    if (inside) return CUDA_SUCCESS;
    return misuse(CUDA_ERROR_INVALID_VALUE, "{:#x} + {} bytes is not within managed memory: {}", address,
                  bytes, d.memory.describe(address));
}

// The GPU is device 0; the host is CU_DEVICE_CPU (-1) or one of the host locations.
bool is_gpu(const CUmemLocation& location) {
    return location.type == CU_MEM_LOCATION_TYPE_DEVICE && location.id == 0;
}
CUmemLocation location_of(CUdevice device) {
    CUmemLocation location = {};
    location.type = device == CU_DEVICE_CPU ? CU_MEM_LOCATION_TYPE_HOST : CU_MEM_LOCATION_TYPE_DEVICE;
    location.id = device == CU_DEVICE_CPU ? 0 : device;
    return location;
}

CUresult prefetch(CUdeviceptr address, size_t bytes, CUmemLocation to, CUstream s, Default which) {
    return on_stream("cuMemPrefetchAsync", s, which, [&](Driver& d, Context& c, Stream& stream) -> CUresult {
        if (CUresult bad = refuse_unmanaged(d, address, bytes); bad != CUDA_SUCCESS) return bad;
        return submit(d, c, stream, PrefetchOp{address, bytes, is_gpu(to)}, nullptr);
    });
}

void apply(Advice& advice, CUmem_advise what, int place) {
    switch (what) {
        case CU_MEM_ADVISE_SET_PREFERRED_LOCATION:
            advice.preferred = place;
            break;
        case CU_MEM_ADVISE_UNSET_PREFERRED_LOCATION:
            advice.preferred = CU_DEVICE_INVALID;
            break;
        case CU_MEM_ADVISE_SET_ACCESSED_BY:
            advice.accessed_by_device = advice.accessed_by_device || place == 0;
            break;
        case CU_MEM_ADVISE_UNSET_ACCESSED_BY:
            advice.accessed_by_device = advice.accessed_by_device && place != 0;
            break;
        default:
            break;  // read-mostly goes by chunks
    }
}

CUresult advise(CUdeviceptr address, size_t bytes, CUmem_advise what, CUmemLocation where) {
    return in_context("cuMemAdvise", [&](Driver& d, Context&) -> CUresult {
        if (CUresult bad = refuse_unmanaged(d, address, bytes); bad != CUDA_SUCCESS) return bad;
        if (what < CU_MEM_ADVISE_SET_READ_MOSTLY || what > CU_MEM_ADVISE_UNSET_ACCESSED_BY)
            return misuse(CUDA_ERROR_INVALID_VALUE, "advice {}", static_cast<int>(what));
        if (what == CU_MEM_ADVISE_SET_READ_MOSTLY || what == CU_MEM_ADVISE_UNSET_READ_MOSTLY)
            d.managed.advise_read_mostly(address, bytes, what == CU_MEM_ADVISE_SET_READ_MOSTLY);
        d.managed.with_advice(address, [&](Advice& a) { apply(a, what, is_gpu(where) ? 0 : CU_DEVICE_CPU); });
        return CUDA_SUCCESS;
    });
}

CUresult range_attribute(Driver& d, void* out, size_t out_bytes, CUmem_range_attribute which,
                         CUdeviceptr address, size_t bytes) {
    if (CUresult bad = refuse_unmanaged(d, address, bytes); bad != CUDA_SUCCESS) return bad;
    Advice a;
    d.managed.with_advice(address, [&](const Advice& known) { a = known; });
    int value = 0;
    switch (which) {
        case CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY:
            value = d.managed.is_read_mostly(address, bytes);
            break;
        case CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION:
            value = a.preferred;
            break;
        case CU_MEM_RANGE_ATTRIBUTE_ACCESSED_BY:
            value = a.accessed_by_device ? 0 : CU_DEVICE_INVALID;
            break;
        case CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION:
            value = a.last_prefetch;
            break;
        default:
            return CUDA_ERROR_NOT_SUPPORTED;
    }
    if (out_bytes < sizeof value)
        return misuse(CUDA_ERROR_INVALID_VALUE, "{} bytes for the answer", out_bytes);
    std::memcpy(out, &value, sizeof value);
    return CUDA_SUCCESS;
}

}  // namespace

CUresult CUDAAPI cuMemAllocManaged(CUdeviceptr* out, size_t bytes, unsigned int flags) {
    return in_context("cuMemAllocManaged", [&](Driver& d, Context& c) -> CUresult {
        if (flags != CU_MEM_ATTACH_GLOBAL && flags != CU_MEM_ATTACH_HOST)
            return misuse(CUDA_ERROR_INVALID_VALUE, "flags {}", flags);
        uint64_t base = 0;
        CUresult result = d.memory.allocate({Kind::managed, bytes, c.handle, flags, nullptr}, &base);
        if (result != CUDA_SUCCESS) return result;
        d.managed.add(base, bytes);
        *out = base;
        return CUDA_SUCCESS;
    });
}
CUresult CUDAAPI cuMemAdvise(CUdeviceptr address, size_t bytes, CUmem_advise what, CUdevice device) {
    return advise(address, bytes, what, location_of(device));
}
CUresult CUDAAPI cuMemAdvise_v2(CUdeviceptr address, size_t bytes, CUmem_advise what, CUmemLocation where) {
    return advise(address, bytes, what, where);
}
CUresult CUDAAPI cuMemPrefetchAsync(CUdeviceptr address, size_t bytes, CUdevice device, CUstream s) {
    return prefetch(address, bytes, location_of(device), s, kLegacy);
}
CUresult CUDAAPI cuMemPrefetchAsync_ptsz(CUdeviceptr address, size_t bytes, CUdevice device, CUstream s) {
    return prefetch(address, bytes, location_of(device), s, kPerThread);
}
CUresult CUDAAPI cuMemPrefetchAsync_v2(CUdeviceptr address, size_t bytes, CUmemLocation to, unsigned int,
                                       CUstream s) {
    return prefetch(address, bytes, to, s, kLegacy);
}
CUresult CUDAAPI cuMemPrefetchAsync_v2_ptsz(CUdeviceptr address, size_t bytes, CUmemLocation to, unsigned int,
                                            CUstream s) {
    return prefetch(address, bytes, to, s, kPerThread);
}
CUresult CUDAAPI cuMemRangeGetAttribute(void* out, size_t out_bytes, CUmem_range_attribute which,
                                        CUdeviceptr address, size_t bytes) {
    return in_context("cuMemRangeGetAttribute", [&](Driver& d, Context&) {
        return range_attribute(d, out, out_bytes, which, address, bytes);
    });
}
CUresult CUDAAPI cuMemRangeGetAttributes(void** out, size_t* out_bytes, CUmem_range_attribute* which,
                                         size_t count, CUdeviceptr address, size_t bytes) {
    return in_context("cuMemRangeGetAttributes", [&](Driver& d, Context&) -> CUresult {
        for (size_t i = 0; i < count; ++i)
            if (CUresult bad = range_attribute(d, out[i], out_bytes[i], which[i], address, bytes);
                bad != CUDA_SUCCESS)
                return bad;
        return CUDA_SUCCESS;
    });
}
// Which stream a range belongs to restricts only programs on GPUs without concurrent access.
CUresult CUDAAPI cuStreamAttachMemAsync(CUstream s, CUdeviceptr address, size_t, unsigned int) {
    return on_stream("cuStreamAttachMemAsync", s, kLegacy,
                     [&](Driver& d, Context&, Stream&) { return refuse_unmanaged(d, address, 1); });
}
CUresult CUDAAPI cuStreamAttachMemAsync_ptsz(CUstream s, CUdeviceptr address, size_t, unsigned int) {
    return on_stream("cuStreamAttachMemAsync", s, kPerThread,
                     [&](Driver& d, Context&, Stream&) { return refuse_unmanaged(d, address, 1); });
}
