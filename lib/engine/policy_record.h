// policy_record.h - what the engine knows of the policy that decides, and of those before it.
//
// Owns:      the tables that objects read, the counts, and the record of loads and ejections. Not the policy.
// Invariant: `bpf` is the policy that decides, or null where a built-in one does.
// Callers:   the engine's thread.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "lib/engine/decisions.h"
#include "lib/policy/bpf_policy.h"

namespace tierd {

struct PolicyRecord {
    BpfPolicy* bpf = nullptr;
    std::shared_ptr<BpfTables> tables;  // shared with programs since the first load; null before
    bool growing = false;               // a reload with more rows has been asked for

    DecisionCounts decisions;  // of the policy that decides now
    uint32_t evictions_in_epoch = 0;
    uint64_t loaded_at_ns = 0;
    std::vector<std::string> init_log;  // what it said when it was loaded
    uint64_t loads = 0;
    uint64_t reloads = 0;
    uint64_t ejections = 0;
    std::string ejected;
    std::string ejected_reason;
};

}  // namespace tierd
