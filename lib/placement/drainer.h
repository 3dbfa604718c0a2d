// drainer.h - memory tiers that are emptied, or made smaller.
//
// Invariant: what finds no space in another tier is evicted; pinned extents are moved or stay.
// Callers:   the thread that owns the Placement, once an epoch.
// Fails:     by JobStatus::error of the drain's job, which then ends.
#pragma once

#include "lib/placement/evictor.h"
#include "lib/placement/extents.h"
#include "lib/placement/jobs.h"
#include "lib/placement/mover.h"

namespace tierd {

class Drainer {
  public:
    Drainer(Extents& extents, TierTable& tiers, Mover& mover, Evictor& evictor)
        : extents_(extents), tiers_(tiers), mover_(mover), evictor_(evictor) {}

    // Moves the oldest of the tier to where there is space, and evicts what finds none. Returns the bytes on their way out.
    uint64_t shrink(const Tier& tier, uint64_t bytes);
    // Sends more of the drained tier away. False when that is over: nothing is left, or what is left can't go. `is_reading`:
    // a fill is under way somewhere.
    bool step(Job& job, bool is_reading);
    uint64_t pinned_bytes(uint8_t tier);

  private:
    bool next_pass(Job& job, bool is_reading);

    Extents& extents_;
    TierTable& tiers_;
    Mover& mover_;
    Evictor& evictor_;
};

}  // namespace tierd
