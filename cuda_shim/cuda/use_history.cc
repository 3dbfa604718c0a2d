#include "cuda_shim/cuda/use_history.h"

namespace tierd::shim::cuda {

void UseHistory::record_use(const AccessSet& access) {
    constexpr uint64_t kSteadyCalls = 4;
    calls_++;
    for (uint32_t i = 0; i < access.count; i++) {
        uint32_t row = access.parts[i].allocation;
        Allocation& allocation = range_.allocation(row);
        // An allocation that nearly every launch uses tells nothing about the order.
        if (allocation.used_at == 0 || calls_ - allocation.used_at > kSteadyCalls) ahead_.learn(range_, row);
        if (allocation.ahead) {
            allocation.ahead = false;
            counters_.chunks_ahead_used += allocation.chunks - allocation.absent;
            ahead_.outcome(true, calls_);
        }
        if (allocation.used_at != 0) allocation.period = calls_ - allocation.used_at;
        allocation.used_at = calls_;
    }
}

void UseHistory::record_eviction(Allocation& allocation) {
    if (allocation.ahead) ahead_.outcome(false, calls_);
    allocation.ahead = false;
}

// Engines sweep their weights in a cycle, where the least recently used is what comes next. So the victim is the
// allocation that is expected to be used last, by the time between its last two uses; one that is overdue
// is no longer in use.
uint64_t UseHistory::calls_until_use(const Allocation& allocation) const {
    uint64_t age = calls_ - allocation.used_at;
    if (allocation.period == 0) return UINT64_MAX / 2 + age;
    return allocation.period > age ? allocation.period - age : age + allocation.period;
}

uint32_t UseHistory::choose_victims(uint32_t* victims, uint32_t wanted, const AccessSet& keep,
                                    uint64_t beyond) const {
    uint32_t found = 0;
    uint64_t below = UINT64_MAX;  // distances from here on were looked at
    uint32_t below_row = 0;
    while (found < wanted) {
        uint32_t best = kNone;
        uint64_t best_distance = 0;
        for (uint32_t i = 0; i < range_.allocation_rows(); i++) {
            const Allocation& row = range_.allocation(i);
            if (row.bytes == 0 || row.pinned || row.absent == row.chunks) continue;
            uint64_t distance = calls_until_use(row);
            bool seen = distance > below || (distance == below && i <= below_row);
            if (seen || distance <= beyond || (best != kNone && distance <= best_distance)) continue;
            best = i;
            best_distance = distance;
        }
        if (best == kNone) break;
        below = best_distance;
        below_row = best;
        const Allocation& row = range_.allocation(best);
        for (uint32_t chunk = row.first + row.chunks; chunk-- > row.first && found < wanted;)
            if (range_.chunk(chunk).resident() && !keep.holds(best, chunk)) victims[found++] = chunk;
    }
    return found;
}

}  // namespace tierd::shim::cuda
