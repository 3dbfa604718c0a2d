// lease_table.h - GPUs and leases as policies see them: which slot each has, and what the policy thinks of whom.
//
// Owns:      the slots. Not the rows, not the marks.
// Invariant: a lease keeps its slot while it lasts; the mark of a slot that goes to another is zeroed first.
// Callers:   the engine's thread.
// Fails:     never; what there is no slot for is not shown, and has priority 0.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "lib/gpu/gpu_arbitrator.h"
#include "lib/policy/bpf_tables.h"

namespace tierd {

class LeaseTable {
  public:
    void publish(const std::vector<GpuStatus>& gpus, const BpfTables& tables,
                 std::span<tierd_lease_mark> marks);
    // The priorities in the marks, by the leases' numbers; those of 0 are left out.
    std::map<uint64_t, uint64_t> priorities(std::span<const tierd_lease_mark> marks) const;

    uint32_t gpus() const { return gpus_; }
    uint32_t leases() const { return static_cast<uint32_t>(numbers_.size()); }

  private:
    void free_slots_of_the_gone(const std::vector<GpuStatus>& gpus, std::span<tierd_lease> rows);
    size_t slot_of(uint64_t number, std::span<tierd_lease_mark> marks);

    uint32_t gpus_ = 0;
    std::vector<uint64_t> numbers_;  // of leases, by slot; 0: free
};

}  // namespace tierd
