// api_pool.cc - stream-ordered allocation and memory pools.
#define __CUDA_API_VERSION_INTERNAL
#include <cuda.h>

#include <cstring>

#include "tests/simcuda/driver/entry.h"
#include "tests/simcuda/driver/pool.h"

using namespace simcuda;

namespace {

constexpr Default kLegacy = Default::legacy, kPerThread = Default::per_thread;

CUmemoryPool current_pool(Driver& d) {
    CUmemoryPool standard = default_pool(d);
    std::lock_guard lock(d.primary_mutex);
    return d.current_pool ? d.current_pool : standard;
}

CUresult allocate(const char* name, CUdeviceptr* out, size_t bytes, CUmemoryPool pool, CUstream s,
                  Default which) {
    return on_stream(name, s, which, [&](Driver& d, Context& c, Stream& stream) {
        return allocate_from_pool(d, c, stream, pool ? pool : current_pool(d), bytes, out);
    });
}

CUresult release(CUdeviceptr address, CUstream s, Default which) {
    return on_stream("cuMemFreeAsync", s, which, [&](Driver& d, Context& c, Stream& stream) {
        return free_to_pool(d, c, stream, address);
    });
}

template <class Body>
CUresult with_pool(const char* name, CUmemoryPool handle, Body body) {
    return entry(name, [&](Driver& d) -> CUresult {
        std::shared_ptr<Pool> pool = d.pools.find(handle);
        if (!pool) return misuse(CUDA_ERROR_INVALID_VALUE, "no pool, or one that was destroyed");
        return body(d, *pool);
    });
}

CUresult read_attribute(Pool& pool, CUmemPool_attribute which, void* out) {
    std::lock_guard lock(pool.mutex);
    uint64_t value = 0;
    switch (which) {
        case CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES:
        case CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC:
        case CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES:
            std::memcpy(out, &pool.reuse_flags[which - CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES],
                        sizeof(int));
            return CUDA_SUCCESS;
        case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD:
            value = pool.release_threshold_bytes;
            break;
        case CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT:
            value = pool.used_bytes + pool.cached_bytes;
            break;
        case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH:
            value = pool.reserved_high_bytes;
            break;
        case CU_MEMPOOL_ATTR_USED_MEM_CURRENT:
            value = pool.used_bytes;
            break;
        case CU_MEMPOOL_ATTR_USED_MEM_HIGH:
            value = pool.used_high_bytes;
            break;
        default:
            return CUDA_ERROR_INVALID_VALUE;
    }
    std::memcpy(out, &value, sizeof value);
    return CUDA_SUCCESS;
}

CUresult write_attribute(Pool& pool, CUmemPool_attribute which, const void* in) {
    std::lock_guard lock(pool.mutex);
    switch (which) {
        case CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES:
        case CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC:
        case CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES:
            std::memcpy(&pool.reuse_flags[which - CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES], in,
                        sizeof(int));
            return CUDA_SUCCESS;
        case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD:
            std::memcpy(&pool.release_threshold_bytes, in, sizeof(uint64_t));
            return CUDA_SUCCESS;
        case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH:
            pool.reserved_high_bytes = pool.used_bytes + pool.cached_bytes;
            return CUDA_SUCCESS;
        case CU_MEMPOOL_ATTR_USED_MEM_HIGH:
            pool.used_high_bytes = pool.used_bytes;
            return CUDA_SUCCESS;
        default:
            return CUDA_ERROR_INVALID_VALUE;
    }
}

}  // namespace

CUresult CUDAAPI cuMemAllocAsync(CUdeviceptr* out, size_t bytes, CUstream s) {
    return allocate("cuMemAllocAsync", out, bytes, nullptr, s, kLegacy);
}
CUresult CUDAAPI cuMemAllocAsync_ptsz(CUdeviceptr* out, size_t bytes, CUstream s) {
    return allocate("cuMemAllocAsync", out, bytes, nullptr, s, kPerThread);
}
CUresult CUDAAPI cuMemAllocFromPoolAsync(CUdeviceptr* out, size_t bytes, CUmemoryPool pool, CUstream s) {
    return allocate("cuMemAllocFromPoolAsync", out, bytes, pool, s, kLegacy);
}
CUresult CUDAAPI cuMemAllocFromPoolAsync_ptsz(CUdeviceptr* out, size_t bytes, CUmemoryPool pool, CUstream s) {
    return allocate("cuMemAllocFromPoolAsync", out, bytes, pool, s, kPerThread);
}
CUresult CUDAAPI cuMemFreeAsync(CUdeviceptr address, CUstream s) {
    return release(address, s, kLegacy);
}
CUresult CUDAAPI cuMemFreeAsync_ptsz(CUdeviceptr address, CUstream s) {
    return release(address, s, kPerThread);
}

CUresult CUDAAPI cuDeviceGetDefaultMemPool(CUmemoryPool* out, CUdevice device) {
    return entry("cuDeviceGetDefaultMemPool", [&](Driver& d) {
        if (device != 0) return CUDA_ERROR_INVALID_DEVICE;
        *out = default_pool(d);
        return CUDA_SUCCESS;
    });
}
CUresult CUDAAPI cuDeviceGetMemPool(CUmemoryPool* out, CUdevice device) {
    return entry("cuDeviceGetMemPool", [&](Driver& d) {
        if (device != 0) return CUDA_ERROR_INVALID_DEVICE;
        *out = current_pool(d);
        return CUDA_SUCCESS;
    });
}
CUresult CUDAAPI cuDeviceSetMemPool(CUdevice device, CUmemoryPool pool) {
    return with_pool("cuDeviceSetMemPool", pool, [&](Driver& d, Pool&) {
        if (device != 0) return CUDA_ERROR_INVALID_DEVICE;
        std::lock_guard lock(d.primary_mutex);
        d.current_pool = pool;
        return CUDA_SUCCESS;
    });
}
CUresult CUDAAPI cuMemPoolCreate(CUmemoryPool* out, const CUmemPoolProps* properties) {
    return entry("cuMemPoolCreate", [&](Driver& d) {
        if (properties->location.type != CU_MEM_LOCATION_TYPE_DEVICE) return CUDA_ERROR_NOT_SUPPORTED;
        if (properties->handleTypes != CU_MEM_HANDLE_TYPE_NONE) return CUDA_ERROR_NOT_SUPPORTED;
        auto pool = std::make_shared<Pool>();
        pool->max_bytes = properties->maxSize;
        *out = d.pools.add(std::move(pool));
        return CUDA_SUCCESS;
    });
}
CUresult CUDAAPI cuMemPoolDestroy(CUmemoryPool handle) {
    return with_pool("cuMemPoolDestroy", handle, [&](Driver& d, Pool& pool) -> CUresult {
        if (handle == default_pool(d))
            return misuse(CUDA_ERROR_INVALID_VALUE, "the default pool can't be destroyed");
        trim_pool(d, pool, 0);
        std::lock_guard lock(d.primary_mutex);
        if (d.current_pool == handle) d.current_pool = nullptr;
        d.pools.remove(handle);  // memory that is still allocated stays until it is freed
        return CUDA_SUCCESS;
    });
}
CUresult CUDAAPI cuMemPoolTrimTo(CUmemoryPool handle, size_t keep_bytes) {
    return with_pool("cuMemPoolTrimTo", handle,
                     [&](Driver& d, Pool& pool) { return trim_pool(d, pool, keep_bytes); });
}
CUresult CUDAAPI cuMemPoolGetAttribute(CUmemoryPool handle, CUmemPool_attribute which, void* out) {
    return with_pool("cuMemPoolGetAttribute", handle,
                     [&](Driver&, Pool& pool) { return read_attribute(pool, which, out); });
}
CUresult CUDAAPI cuMemPoolSetAttribute(CUmemoryPool handle, CUmemPool_attribute which, void* in) {
    return with_pool("cuMemPoolSetAttribute", handle,
                     [&](Driver&, Pool& pool) { return write_attribute(pool, which, in); });
}
CUresult CUDAAPI cuMemPoolSetAccess(CUmemoryPool handle, const CUmemAccessDesc* access, size_t count) {
    return with_pool("cuMemPoolSetAccess", handle, [&](Driver&, Pool&) {
        for (size_t i = 0; i < count; ++i)
            if (access[i].location.id != 0) return CUDA_ERROR_INVALID_DEVICE;
        return CUDA_SUCCESS;
    });
}
CUresult CUDAAPI cuMemPoolGetAccess(CUmemAccess_flags* out, CUmemoryPool handle, CUmemLocation*) {
    return with_pool("cuMemPoolGetAccess", handle,
                     [&](Driver&, Pool&) { return *out = CU_MEM_ACCESS_FLAGS_PROT_READWRITE, CUDA_SUCCESS; });
}
