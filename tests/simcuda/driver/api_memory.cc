// api_memory.cc - plain device memory, pinned and registered host memory, and questions about addresses.
#define __CUDA_API_VERSION_INTERNAL
#include <cuda.h>

#include <cstring>

#include "lib/base/bytes.h"
#include "tests/simcuda/driver/entry.h"
#include "tests/simcuda/driver/pool.h"

using namespace simcuda;

namespace {

CUresult allocate(Driver& d, const Memory::Ask& ask, CUdeviceptr* out) {
    uint64_t base = 0;
    CUresult result = d.memory.allocate(ask, &base);
    if (result != CUDA_SUCCESS) return result;
    ++d.counters.allocations;
    *out = base;
    return CUDA_SUCCESS;
}

CUresult pin(void** out, size_t bytes, unsigned flags) {
    return in_context("cuMemHostAlloc", [&](Driver& d, Context& c) -> CUresult {
        CUdeviceptr base = 0;
        CUresult result = allocate(d, {Kind::pinned, bytes, c.handle, flags, nullptr}, &base);
        if (result == CUDA_SUCCESS) *out = reinterpret_cast<void*>(base);
        return result;
    });
}

}  // namespace

CUresult CUDAAPI cuMemGetInfo_v2(size_t* free_bytes, size_t* total_bytes) {
    return in_context("cuMemGetInfo", [&](Driver& d, Context&) {
        *free_bytes = d.gpu->free_bytes();
        *total_bytes = d.gpu->total_bytes();
        return CUDA_SUCCESS;
    });
}
CUresult CUDAAPI cuMemAlloc_v2(CUdeviceptr* out, size_t bytes) {
    return in_context("cuMemAlloc", [&](Driver& d, Context& c) {
        return allocate(d, {Kind::plain, bytes, c.handle, 0, nullptr}, out);
    });
}
CUresult CUDAAPI cuMemAllocPitch_v2(CUdeviceptr* out, size_t* pitch, size_t width, size_t height,
                                    unsigned int element) {
    return in_context("cuMemAllocPitch", [&](Driver& d, Context& c) -> CUresult {
        if (element != 4 && element != 8 && element != 16)
            return misuse(CUDA_ERROR_INVALID_VALUE, "elements of {} bytes (4, 8 or 16)", element);
        *pitch = tierd::round_up(width, kAlignmentBytes);
        return allocate(d, {Kind::plain, *pitch * height, c.handle, 0, nullptr}, out);
    });
}
// Waits for all work of the context: what a program still has in flight may use the memory.
CUresult CUDAAPI cuMemFree_v2(CUdeviceptr address) {
    return in_context("cuMemFree", [&](Driver& d, Context& c) -> CUresult {
        if (address == 0) return CUDA_SUCCESS;
        drain(d, c);
        std::optional<Region> region = d.memory.find(address);
        if (region && region->kind == Kind::stream_ordered && region->base == address && !region->freeing)
            return release_to_pool(d, {address, region->pool}), CUDA_SUCCESS;
        CUresult result = d.memory.release(address, {Kind::plain, Kind::managed});
        if (result == CUDA_SUCCESS && region->kind == Kind::managed) d.managed.remove(address);
        return result;
    });
}
CUresult CUDAAPI cuMemGetAddressRange_v2(CUdeviceptr* base, size_t* bytes, CUdeviceptr address) {
    return in_context("cuMemGetAddressRange", [&](Driver& d, Context&) -> CUresult {
        std::optional<Region> region = d.memory.find(address);
        if (!region) return CUDA_ERROR_NOT_FOUND;
        if (base) *base = region->base;
        if (bytes) *bytes = region->size_bytes;
        return CUDA_SUCCESS;
    });
}

CUresult CUDAAPI cuMemHostAlloc(void** out, size_t bytes, unsigned int flags) {
    return pin(out, bytes, flags);
}
CUresult CUDAAPI cuMemAllocHost_v2(void** out, size_t bytes) {
    return pin(out, bytes, 0);
}
CUresult CUDAAPI cuMemFreeHost(void* address) {
    return in_context("cuMemFreeHost", [&](Driver& d, Context& c) {
        drain(d, c);
        return d.memory.release(reinterpret_cast<uint64_t>(address), {Kind::pinned});
    });
}
CUresult CUDAAPI cuMemHostRegister_v2(void* address, size_t bytes, unsigned int flags) {
    return in_context("cuMemHostRegister", [&](Driver& d, Context& c) {
        return d.memory.adopt_host(address, bytes, flags, c.handle);
    });
}
CUresult CUDAAPI cuMemHostUnregister(void* address) {
    return in_context("cuMemHostUnregister", [&](Driver& d, Context&) -> CUresult {
        auto base = reinterpret_cast<uint64_t>(address);
        std::optional<Region> region = d.memory.find(base);
        if (!region || region->kind != Kind::registered || region->base != base)
            return misuse(CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED, "{:#x} is {}", base,
                          d.memory.describe(base));
        return d.memory.release(base, {Kind::registered});
    });
}
CUresult CUDAAPI cuMemHostGetDevicePointer_v2(CUdeviceptr* out, void* address, unsigned int flags) {
    return in_context("cuMemHostGetDevicePointer", [&](Driver& d, Context&) -> CUresult {
        std::optional<Region> region = d.memory.find(reinterpret_cast<uint64_t>(address));
        if (flags || !region || (region->kind != Kind::pinned && region->kind != Kind::registered))
            return misuse(CUDA_ERROR_INVALID_VALUE, "{} is not pinned host memory", address);
        *out = reinterpret_cast<uint64_t>(address);  // unified addressing
        return CUDA_SUCCESS;
    });
}
CUresult CUDAAPI cuMemHostGetFlags(unsigned int* flags, void* address) {
    return in_context("cuMemHostGetFlags", [&](Driver& d, Context&) -> CUresult {
        std::optional<Region> region = d.memory.find(reinterpret_cast<uint64_t>(address));
        if (!region || region->kind != Kind::pinned)
            return misuse(CUDA_ERROR_INVALID_VALUE, "{} is not memory of cuMemHostAlloc", address);
        *flags = region->flags;
        return CUDA_SUCCESS;
    });
}
