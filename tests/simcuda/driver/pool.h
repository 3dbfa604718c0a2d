// pool.h - memory pools: where stream-ordered allocations come from and go back to.
//
// A free takes effect when the stream gets there. What is freed stays with the pool, up to the release threshold of its
// attributes, and is given back to the GPU at the next synchronisation as documented; here: at once, above the threshold.
// Invariant: used <= reserved; both are what cuMemPoolGetAttribute reports.
// Callers:   any thread. Fails: with the documented CUresult.
#pragma once

#include <cuda.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

#include "tests/simcuda/driver/operation.h"

namespace simcuda {

struct Pool {
    std::mutex mutex;  // all fields
    uint64_t used_bytes = 0, used_high_bytes = 0;
    uint64_t cached_bytes = 0, reserved_high_bytes = 0;  // cached: freed, still charged to the GPU
    uint64_t release_threshold_bytes = 0;
    uint64_t max_bytes = 0;      // 0: the GPU's
    std::vector<MarkPtr> frees;  // under way: an allocation that finds the GPU full waits for them
    int reuse_flags[3] = {1, 1, 1};

    uint64_t reserved_bytes() {
        std::lock_guard lock(mutex);
        return used_bytes + cached_bytes;
    }
    bool is_full(uint64_t more_bytes) {
        std::lock_guard lock(mutex);
        return max_bytes && used_bytes + more_bytes > max_bytes;
    }
};

CUresult allocate_from_pool(Driver& d, Context& c, Stream& s, CUmemoryPool handle, uint64_t bytes,
                            CUdeviceptr* out);
CUresult free_to_pool(Driver& d, Context& c, Stream& s, CUdeviceptr address);
void release_to_pool(Driver& d, const FreeOp& op);  // on the stream's thread, when the free takes effect
CUresult trim_pool(Driver& d, Pool& pool, uint64_t keep_bytes);
CUmemoryPool default_pool(Driver& d);

}  // namespace simcuda
