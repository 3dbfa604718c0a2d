// evictor.h - from memory that is needed to memory that is free.
//
// Owns:      how much memory is on its way back.
// Invariant: only a resident extent is evicted, and a pinned one only where it is no longer whole or its file changed; the
//            tier's account falls when the memory has been returned, not before.
// Callers:   the thread that owns the Placement.
// Fails:     by returning less than was asked for.
#pragma once

#include "lib/placement/backend.h"
#include "lib/placement/counters.h"
#include "lib/placement/extents.h"
#include "lib/placement/mover.h"
#include "lib/placement/policy_host.h"
#include "lib/tier/tier_table.h"

namespace tierd {

class Evictor {
  public:
    Evictor(Extents& extents, TierTable& tiers, Mover& mover, PolicyHost& policy, Backend& backend,
            EngineCounters& counters, uint64_t extent_bytes);

    // True when `bytes` are free or on their way to be. `wanted`: the extent that a read-ahead wants the memory for.
    bool make_room(uint64_t bytes, bool for_demand, ExtentId wanted = kNoExtent);
    // Keeps a little memory free while misses come, so that the next one need not wait for an eviction.
    void keep_watermark();
    // Evicts what exceeds a capacity that was lowered. Of a machine with one tier.
    void shrink_to(uint64_t capacity_bytes);
    // The least recently used go first. Of one tier, or of all. Returns the bytes on their way.
    uint64_t evict_by_age(uint64_t bytes, uint8_t tier = kNoTier);
    // Gives the oldest huge page back, when the pool can't give another one. False: there is none.
    bool free_huge_page();

    // False when the extent may not go: not resident, pinned, moving (then it goes at the end of that), or no extent at all.
    // `not_whole`: partially lost, or split across tiers; then it goes even if it is pinned.
    bool start(ExtentId id, bool not_whole = false);
    // The extent is filling or resident. `was_published`: sessions may have it mapped.
    void release(ExtentId id, bool was_published);
    // The memory has been returned: the extent is absent.
    void on_released(ExtentId id, bool was_published);

    uint64_t evicting_bytes() const { return evicting_bytes_; }

  private:
    uint64_t reclaim(uint64_t bytes, bool for_demand, ExtentId wanted);

    Extents& extents_;
    TierTable& tiers_;
    Mover& mover_;
    PolicyHost& policy_;
    Backend& backend_;
    EngineCounters& counters_;
    const uint64_t extent_bytes_;
    uint64_t evicting_bytes_ = 0;
};

}  // namespace tierd
