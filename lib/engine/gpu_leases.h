// gpu_leases.h - GPU leases between the arbiter that grants them and the policy that ranks them.
//
// Owns:      which lease has which slot of the policy's tables, and which rows are marked as being on a GPU.
// Invariant: no row is marked twice, whatever processes say of themselves.
// Callers:   the engine's thread, once an epoch.
#pragma once

#include <optional>

#include "lib/engine/files.h"
#include "lib/engine/lease_table.h"
#include "lib/gpu/gpu_arbitrator.h"
#include "lib/placement/placement.h"

namespace tierd {

class GpuLeases {
  public:
    // `arbitrator`: null where there is no GPU memory to lease.
    GpuLeases(GpuArbitrator* arbitrator, Placement& placement, FileRegistry& files)
        : arbitrator_(arbitrator), placement_(placement), files_(files) {}

    // What the policy wrote since the last epoch holds from now on; then it is shown how things are.
    void update();

  private:
    void mark_rows();
    void mark_rows(const WeightFile& file, std::vector<GpuRun> runs);

    GpuArbitrator* arbitrator_;
    Placement& placement_;
    FileRegistry& files_;
    LeaseTable table_;
    std::optional<uint64_t> marked_;  // GpuArbitrator::runs_version() when rows were last marked
};

}  // namespace tierd
