// result.h - what a replay found. Callers: any thread; values.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

namespace tierd {

// Of one model, or of all.
struct ReplayCounts {
    uint64_t touches = 0;
    uint64_t found = 0;       // touches that found their extent in memory
    uint64_t found_fast = 0;  // of these, in the fastest tier
    uint64_t reads = 0;       // fills, on demand or ahead
    uint64_t stall_ns = 0;    // readers waited for fills, or for a tier slower than the fastest

    ReplayCounts& operator+=(const ReplayCounts& other) {
        touches += other.touches;
        found += other.found;
        found_fast += other.found_fast;
        reads += other.reads;
        stall_ns += other.stall_ns;
        return *this;
    }
    double share(uint64_t part) const {
        return static_cast<double>(part) / static_cast<double>(std::max<uint64_t>(touches, 1));
    }
    double found_ratio() const { return share(found); }
    double fast_ratio() const { return share(found_fast); }
    // Touches that cost no read. Unlike found_ratio() it can't be bettered by reading ahead, so it may be compared with
    // the optimum's.
    double hit_ratio() const { return 1 - share(std::min(reads, touches)); }
};

struct RefusedCount {
    std::string reason;
    uint64_t count = 0;
};

struct ModelResult {
    std::string name;
    uint32_t uid = 0;
    ReplayCounts counts;
};

struct ReplayResult {
    std::string policy;
    uint64_t capacity_bytes = 0;
    ReplayCounts all;
    std::vector<ModelResult> models;
    uint64_t reads_ahead = 0;
    uint64_t wasted = 0;  // read ahead, evicted untouched
    uint64_t bytes_read = 0;
    uint64_t evictions = 0;
    uint64_t moves = 0;
    uint64_t bytes_moved = 0;
    uint64_t total_ns = 0;              // until the last reader was done
    uint64_t calls = 0;                 // of the policy's hooks; 0 for what is no BPF policy
    uint64_t call_p50_ns = 0;           // processor time of a fault's call
    uint64_t epoch_p50_ns = 0;          // and of an epoch's
    uint64_t faults = 0;                // calls that failed or returned what they may not
    std::vector<RefusedCount> refused;  // proposals that were not carried out, by reason
};

}  // namespace tierd
