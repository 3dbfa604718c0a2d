#include "lib/engine/core.h"

#include "lib/base/clock.h"

namespace tierd {

namespace {

// Of what sampling may cost, the part that hints aim at: they are steered by what they have cost already.
constexpr double kHintShare = 0.9;

PlacementConfig placement_config(const EngineConfig& config) {
    PlacementConfig out{.extent_bytes = config.extent_bytes,
                        .io_depth = config.io_depth,
                        .read_ahead = config.read_ahead,
                        .keeps_watermark = true,
                        .tiers = config.tiers,
                        .system_tier = config.system_tier};
    if (out.tiers.empty()) out.tiers.push_back({.name = "dram0", .capacity_bytes = config.budget_bytes});
    return out;
}

Hinter::Config hinter_config(const EngineConfig& config) {
    return {.on = config.sample_source == "auto" || config.sample_source == "hint",
            .huge_pages = config.sample_source == "hint",
            .share_of_core = kHintShare * config.sample_cost_percent / 100,
            .epoch_ms = config.epoch_ms};
}

PolicyHost::Hooks policy_hooks(Mailbox& mailbox, std::function<void()> grow_policy) {
    return {.replied = [&mailbox] { mailbox.post([](Core& core) { core.loop.on_policy_replies(); }); },
            .outgrown = std::move(grow_policy)};
}

}  // namespace

Core::Core(const EngineConfig& engine_config, Parts parts)
    : config(engine_config),
      started_ns(monotonic_ns()),
      mailbox(*parts.mailbox),
      state_thread(*parts.state_thread),
      readiness(std::move(parts.readiness)),
      heartbeat(parts.heartbeat, config.deadline_ms),
      backend(std::move(parts.reader), std::move(parts.bounce), mailbox, *parts.evictor,
              config.migrate_bytes_per_s),
      placement(placement_config(config), std::move(parts.table), std::move(parts.policy), backend,
                policy_hooks(mailbox, std::move(parts.grow_policy))),
      files(placement, backend, std::move(parts.watch), state_thread, std::move(parts.state)),
      sampler(placement, files),
      sessions(placement, files, sampler, readiness),
      hinter(hinter_config(config), placement, files, sessions, sampler, mailbox, *parts.evictor),
      huge(placement, sessions, mailbox, *parts.evictor),
      faults(config.fault_deadline_ms, started_ns, placement, backend, files, sessions, hinter, huge,
             heartbeat),
      auditor(placement),
      tier_admin(placement, auditor, kMinBudgetExtents * config.extent_bytes, config.tier_share_percent),
      gpu_leases(parts.leases, placement, files),
      admin(*this),
      loop(*this, readiness, std::move(parts.memory_events)) {}

}  // namespace tierd
