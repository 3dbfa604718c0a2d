// memory_tier.h - how much memory tierd may use in one tier, and how much it has granted.
//
// Owns:      the account of one memory tier. Not the memory.
// Invariant: used_bytes <= capacity_bytes, except after the capacity was lowered, until evictions have caught up.
//            Memory is granted before it is filled and given back after it is freed, so the account is never too low.
// Callers:   grant/give_back/resize: the engine's thread; the readers: any thread.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace tierd {

class MemoryTier {
  public:
    explicit MemoryTier(uint64_t capacity_bytes) : capacity_bytes_(capacity_bytes) {}

    // True and accounted when it fits; false and nothing changed when it does not.
    bool grant(uint64_t bytes) {
        uint64_t used = used_bytes();
        if (used + bytes > capacity_bytes()) return false;
        used_bytes_.store(used + bytes, std::memory_order_relaxed);
        peak_bytes_.store(std::max(peak_bytes(), used + bytes), std::memory_order_relaxed);
        return true;
    }
    void give_back(uint64_t bytes) { used_bytes_.store(used_bytes() - bytes, std::memory_order_relaxed); }
    void resize(uint64_t capacity_bytes) {
        capacity_bytes_.store(capacity_bytes, std::memory_order_relaxed);
        peak_bytes_.store(used_bytes(), std::memory_order_relaxed);
    }

    // Relaxed: each is a figure for display or for the only writer itself; no other data is published by
    // them.
    uint64_t capacity_bytes() const { return capacity_bytes_.load(std::memory_order_relaxed); }
    uint64_t used_bytes() const { return used_bytes_.load(std::memory_order_relaxed); }
    uint64_t peak_bytes() const { return peak_bytes_.load(std::memory_order_relaxed); }
    uint64_t free_bytes() const {
        uint64_t used = used_bytes(), capacity = capacity_bytes();
        return used < capacity ? capacity - used : 0;
    }

  private:
    std::atomic<uint64_t> capacity_bytes_;
    std::atomic<uint64_t> used_bytes_ = 0;
    std::atomic<uint64_t> peak_bytes_ = 0;
};

}  // namespace tierd
