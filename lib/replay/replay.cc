#include "lib/replay/replay.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "lib/policy/bpf_policy.h"
#include "lib/replay/measures.h"

namespace tierd {

namespace {

// What the programs' calls cost and what became of their proposals.
void add_stats(const PolicyStats& stats, ReplayResult& result) {
    for (const HookStats& hook : stats.hooks) {
        result.calls += hook.cpu.count();
        result.faults += hook.faults;
    }
    if (stats.not_admitted > 0) result.refused.push_back({"not admitted", stats.not_admitted});
    if (stats.no_room > 0) result.refused.push_back({"no room in the answer", stats.no_room});
    result.call_p50_ns = stats.hooks[static_cast<size_t>(Hook::fault)].cpu.percentile_ns(50);
    result.epoch_p50_ns = stats.hooks[static_cast<size_t>(Hook::epoch)].cpu.percentile_ns(50);
}

Result<ReplayResult> run(const Script& script, const ReplayTiers& tiers, std::unique_ptr<Policy> policy,
                         bool ideal) {
    auto machine = Machine::make(script, tiers, std::move(policy), nullptr, ideal);
    if (!machine) return std::unexpected(machine.error());
    return (*machine)->run();
}

}  // namespace

Result<ReplayResult> replay_policy(const Script& script, const ReplayTiers& tiers, const ObjectFile& object,
                                   std::span<const Knob> knobs) {
    auto tables = BpfTables::make(std::max(script.extents, 1u));
    if (!tables) return std::unexpected(tables.error());
    auto loaded = BpfObject::load(object, knobs, *tables);
    if (!loaded) return std::unexpected(loaded.error());
    auto made = std::make_unique<BpfPolicy>(*loaded, run_at_once(*loaded), make_builtin_policy("auto"));
    const BpfPolicy& policy = *made;
    auto machine = Machine::make(script, tiers, std::move(made), *tables, false);
    if (!machine) return std::unexpected(machine.error());
    if (auto ready = BpfPolicy::init(*loaded, (*machine)->view()); !ready)
        return std::unexpected(ready.error());
    auto result = (*machine)->run();
    if (result) add_stats(policy.stats(), *result);
    return result;
}

Result<ReplayResult> replay_builtin(const Script& script, const ReplayTiers& tiers, std::string_view name) {
    auto policy = make_builtin_policy(name);
    if (policy == nullptr) return fail(Code::not_found, "use the built-in policy", std::string(name));
    return run(script, tiers, std::move(policy), false);
}

Result<ReplayResult> replay_measure(const Script& script, const ReplayTiers& tiers, Measured measure) {
    auto policy = measure == Measured::lru ? make_lru_measure(script) : make_optimum(script);
    return run(script, tiers, std::move(policy), true);
}

ReplayTiers scaled(const ReplayTiers& tiers, double share) {
    ReplayTiers out = tiers;
    for (tierd_tier_info& tier : out.tiers)
        tier.capacity_bytes = static_cast<uint64_t>(static_cast<double>(tier.capacity_bytes) * share);
    return out;
}

}  // namespace tierd
