#include "lib/replay/replay.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "lib/policy/bpf_policy.h"
#include "lib/replay/references.h"

namespace tierd {

namespace {

// What the programs' calls cost and what became of their proposals.
void add_stats(const PolicyStats& stats, ReplayResult& result) {
    for (const HookStats& hook : stats.hooks) {
        result.calls += hook.cpu.count();
        result.faults += hook.faults;
    }
    if (stats.not_admitted > 0) result.refused.push_back({"not admitted", stats.not_admitted});
    if (stats.answer_full > 0) result.refused.push_back({"the answer is full", stats.answer_full});
    result.call_p50_ns = stats.hooks[static_cast<size_t>(Hook::fault)].cpu.percentile_ns(50);
    result.epoch_p50_ns = stats.hooks[static_cast<size_t>(Hook::epoch)].cpu.percentile_ns(50);
}

Result<ReplayResult> run(const Workload& workload, const ReplayTiers& tiers, std::unique_ptr<Policy> policy,
                         bool ideal) {
    auto simulator = Simulator::make(workload, tiers, std::move(policy), nullptr, ideal);
    if (!simulator) return std::unexpected(simulator.error());
    return (*simulator)->run();
}

}  // namespace

Result<ReplayResult> replay_policy(const Workload& workload, const ReplayTiers& tiers,
                                   const ObjectFile& object, std::span<const Knob> knobs) {
    auto tables = BpfTables::make(std::max(workload.extents, 1u));
    if (!tables) return std::unexpected(tables.error());
    auto loaded = BpfObject::load(object, knobs, *tables);
    if (!loaded) return std::unexpected(loaded.error());
    auto made = std::make_unique<BpfPolicy>(*loaded, run_at_once(*loaded), make_builtin_policy("auto"));
    const BpfPolicy& policy = *made;
    auto simulator = Simulator::make(workload, tiers, std::move(made), *tables, false);
    if (!simulator) return std::unexpected(simulator.error());
    if (auto ready = BpfPolicy::init(*loaded, (*simulator)->view()); !ready)
        return std::unexpected(ready.error());
    auto result = (*simulator)->run();
    if (result) add_stats(policy.stats(), *result);
    return result;
}

Result<ReplayResult> replay_builtin(const Workload& workload, const ReplayTiers& tiers,
                                    std::string_view name) {
    auto policy = make_builtin_policy(name);
    if (policy == nullptr) return fail(Code::not_found, "use the built-in policy", std::string(name));
    return run(workload, tiers, std::move(policy), false);
}

Result<ReplayResult> replay_reference(const Workload& workload, const ReplayTiers& tiers, Reference measure) {
    auto policy = measure == Reference::lru ? make_reference_lru(workload) : make_belady(workload);
    return run(workload, tiers, std::move(policy), true);
}

ReplayTiers scaled(const ReplayTiers& tiers, double share) {
    ReplayTiers out = tiers;
    for (tierd_tier_info& tier : out.tiers)
        tier.capacity_bytes = static_cast<uint64_t>(static_cast<double>(tier.capacity_bytes) * share);
    return out;
}

}  // namespace tierd
