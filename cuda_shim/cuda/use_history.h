// use_history.h - when each allocation was used, which is used next, and so which chunks are evicted first.
//
// Owns:      the count of calls and the predictor; the times are the allocations' own (reserved_range.h).
// Invariant: victims are resident chunks of allocations that are not pinned, and none of those to keep.
// Callers:   with the GPU's lock held.
#pragma once

#include "cuda_shim/cuda/access_set.h"
#include "cuda_shim/cuda/ahead.h"
#include "cuda_shim/cuda/counters.h"

namespace tierd::shim::cuda {

class UseHistory {
  public:
    constexpr UseHistory(ReservedRange& range, GpuCounters& counters) : range_(range), counters_(counters) {}

    void record_use(const AccessSet& access);
    // The allocation that is expected next; kNone: none.
    uint32_t expected() const { return ahead_.expected(range_, calls_); }
    void record_eviction(Allocation& allocation);

    uint64_t calls_until_use(const Allocation& allocation) const;
    // Chunks of the allocations that are needed last, from their ends, so that a fixed part of each stays. Only of
    // those that are needed later than `beyond`.
    uint32_t choose_victims(uint32_t* victims, uint32_t wanted, const AccessSet& keep, uint64_t beyond) const;

  private:
    ReservedRange& range_;
    GpuCounters& counters_;
    uint64_t calls_ = 0;  // that came to the lock; the clock of `used_at`
    Ahead ahead_;
};

}  // namespace tierd::shim::cuda
