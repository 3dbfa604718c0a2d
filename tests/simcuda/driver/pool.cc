#include "tests/simcuda/driver/pool.h"

#include <algorithm>

#include "tests/simcuda/driver/graph.h"
#include "tests/simcuda/driver/misuse.h"

namespace simcuda {
namespace {

void give_back_cache(Driver& d, Pool& pool, uint64_t bytes) {
    std::lock_guard lock(pool.mutex);
    uint64_t dropped = std::min(pool.cached_bytes, bytes);
    pool.cached_bytes -= dropped;
    d.gpu->refund(dropped);
}

void wait_for_frees(Pool& pool) {
    std::vector<MarkPtr> frees;
    {
        std::lock_guard lock(pool.mutex);
        frees.swap(pool.frees);
    }
    for (const MarkPtr& mark : frees) mark->wait();
}

}  // namespace

CUmemoryPool default_pool(Driver& d) {
    std::lock_guard lock(d.primary_mutex);
    if (!d.default_pool) d.default_pool = d.pools.add(std::make_shared<Pool>());
    return d.default_pool;
}

CUresult allocate_from_pool(Driver& d, Context& c, Stream& s, CUmemoryPool handle, uint64_t bytes,
                            CUdeviceptr* out) {
    std::shared_ptr<Pool> pool = d.pools.find(handle);
    if (!pool) return misuse(CUDA_ERROR_INVALID_VALUE, "no pool, or one that was destroyed");
    {
        std::lock_guard lock(c.order);
        if (s.capture) return CUDA_ERROR_NOT_SUPPORTED;  // allocation nodes of graphs are not simulated
    }
    if (pool->is_full(bytes)) return CUDA_ERROR_OUT_OF_MEMORY;
    Memory::Ask ask{Kind::stream_ordered, bytes, c.handle, 0, handle};
    give_back_cache(d, *pool, bytes);
    uint64_t base = 0;
    CUresult result = d.memory.allocate(ask, &base);
    if (result == CUDA_ERROR_OUT_OF_MEMORY) {
        wait_for_frees(*pool);
        give_back_cache(d, *pool, ~uint64_t{0});
        result = d.memory.allocate(ask, &base);
    }
    if (result != CUDA_SUCCESS) return result;
    ++d.counters.allocations;
    *out = base;
    std::lock_guard lock(pool->mutex);
    pool->used_bytes += bytes;
    pool->used_high_bytes = std::max(pool->used_high_bytes, pool->used_bytes);
    pool->reserved_high_bytes = std::max(pool->reserved_high_bytes, pool->used_bytes + pool->cached_bytes);
    return CUDA_SUCCESS;
}

CUresult free_to_pool(Driver& d, Context& c, Stream& s, CUdeviceptr address) {
    std::optional<Region> region = d.memory.find(address);
    bool ours = region && region->base == address &&
                (region->kind == Kind::stream_ordered || region->kind == Kind::plain);
    if (!ours || region->freeing)
        return misuse(CUDA_ERROR_INVALID_VALUE, "can't free {:#x}: {}", address,
                      ours ? "freed before on a stream" : d.memory.describe(address));
    d.memory.begin_free(address);
    MarkPtr done;
    if (CUresult bad = submit(d, c, s, FreeOp{address, region->pool}, &done); bad != CUDA_SUCCESS) return bad;
    std::shared_ptr<Pool> pool = region->pool ? d.pools.find(region->pool) : nullptr;
    if (!pool || !done) return CUDA_SUCCESS;
    std::lock_guard lock(pool->mutex);
    std::erase_if(pool->frees, [](const MarkPtr& mark) { return mark->reached(); });
    pool->frees.push_back(std::move(done));
    return CUDA_SUCCESS;
}

void release_to_pool(Driver& d, const FreeOp& op) {
    std::optional<Region> region = d.memory.find(op.address);
    uint64_t bytes = region ? region->size_bytes : 0;
    if (d.memory.release(op.address, {Kind::stream_ordered, Kind::plain}) != CUDA_SUCCESS) return;
    std::shared_ptr<Pool> pool = op.pool ? d.pools.find(op.pool) : nullptr;
    if (!pool) return;
    std::lock_guard lock(pool->mutex);
    pool->used_bytes -= bytes;
    bool keep = pool->used_bytes + pool->cached_bytes + bytes <= pool->release_threshold_bytes;
    if (keep && d.gpu->charge(bytes)) pool->cached_bytes += bytes;
}

CUresult trim_pool(Driver& d, Pool& pool, uint64_t keep_bytes) {
    uint64_t reserved = pool.reserved_bytes();
    give_back_cache(d, pool, reserved > keep_bytes ? reserved - keep_bytes : 0);
    return CUDA_SUCCESS;
}

}  // namespace simcuda
