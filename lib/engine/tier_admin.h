// tier_admin.h - memory tiers that come, grow, shrink, are emptied and go, by an administrator or with the machine's memory.
//
// Invariant: the machine is looked at by the caller, on another thread, since that may take a while.
// Callers:   the engine's thread.
// Fails:     bad_input, busy, not_found or no_space, with what to do instead; then nothing has changed.
#pragma once

#include <string>
#include <vector>

#include "lib/engine/placement_auditor.h"
#include "lib/engine/status.h"
#include "lib/placement/placement.h"
#include "lib/tier/tier_spec.h"
#include "lib/tier/topology.h"

namespace tierd {

class TierAdmin {
  public:
    // `least_bytes`: of a tier. `share_percent`: of a node's memory that a tier gets when it appears at run time.
    TierAdmin(Placement& placement, PlacementAuditor& auditor, uint64_t least_bytes, uint32_t share_percent)
        : placement_(placement),
          auditor_(auditor),
          least_bytes_(least_bytes),
          share_percent_(share_percent) {}

    std::vector<TierStatus> tiers() const;
    // The capacity of the system's tier; what exceeds a smaller one is evicted at once.
    Result<void> set_budget(uint64_t budget_bytes);
    Result<TierStatus> add(const TierOverride& said, const Topology& topology);
    Result<TierStatus> resize(const std::string& name, uint64_t capacity_bytes, const Topology& topology);
    // Empties it: a job. `remove`: and forgets it then.
    Result<JobStatus> drain(const std::string& name, bool remove);
    void on_topology(const Topology& topology);

  private:
    TierStatus describe(const Tier& tier) const;
    std::vector<std::string> shrink_to_memory(const Topology& topology);

    Placement& placement_;
    PlacementAuditor& auditor_;
    const uint64_t least_bytes_;
    const uint32_t share_percent_;
};

}  // namespace tierd
