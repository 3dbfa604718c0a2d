// replay.h - runs a trace on modelled tiers with a policy, and with the references.
//
// Owns:      nothing between calls.
// Invariant: each run starts with empty memory and a freshly loaded policy, so runs are independent.
// Callers:   any thread; a run takes about a second per million touches.
// Fails:     as BpfObject::load() and Simulator::run() do; denied if this process may not load BPF.
#pragma once

#include <span>
#include <string_view>

#include "lib/policy/bpf_object.h"
#include "lib/replay/simulator.h"

namespace tierd {

Result<ReplayResult> replay_policy(const Workload& workload, const ReplayTiers& tiers,
                                   const ObjectFile& object, std::span<const Knob> knobs);
// "lru", "sweep" or "auto", as they are compiled into tierd. Errors: not_found.
Result<ReplayResult> replay_builtin(const Workload& workload, const ReplayTiers& tiers,
                                    std::string_view name);
enum class Reference : uint8_t { lru, belady };
Result<ReplayResult> replay_reference(const Workload& workload, const ReplayTiers& tiers, Reference measure);

// The same tiers with `share` (0 to 1) of their capacity.
ReplayTiers scaled(const ReplayTiers& tiers, double share);

}  // namespace tierd
