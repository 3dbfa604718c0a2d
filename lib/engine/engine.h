// engine.h - the engine: joins fault → policy → io → arena, and answers sessions and administrators.
//
// Owns:      the engine's thread (all decisions are made there, so the extent table has no lock), the evictor
//            and the state database's thread.
// Invariant: DESIGN.md's invariants 1 to 7; docs/invariants.md names the code and the test of each.
// Callers:   every public function from any thread. They post to the engine's thread and wait for it;
//            attach() and preload() also read the file's header first, on the caller's thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "lib/arena/arena_store.h"
#include "lib/engine/control.h"
#include "lib/gpu/gpu_arbitrator.h"
#include "lib/session/handler.h"
#include "lib/tier/tier_spec.h"

namespace tierd {

struct EngineConfig {
    uint64_t budget_bytes = 0;          // at least kMinBudgetExtents extents
    std::vector<TierSpec> tiers = {};   // empty: the budget is the one tier, dram0
    std::string system_tier = "dram0";  // whose capacity the budget is
    uint32_t tier_share_percent = 75;   // of a node that appears at run time
    bool follow_memory = false;         // nodes that appear are taken into use
    uint64_t migrate_bytes_per_s = 0;   // moves between tiers; 0: as fast as the memory is
    uint64_t extent_bytes = 2 << 20;    // power of two, 64 KiB to 2 MiB
    HugePages huge_pages = HugePages::automatic;
    uint32_t io_depth = 8;  // read-ahead keeps at most so many reads under way; demand is not held back by it
    bool direct_io = true;
    std::string policy = "auto";     // a built-in one
    std::string policy_object = {};  // path of an eBPF policy to load at the start; empty: none
    std::vector<NamedValue> policy_knobs = {};
    bool read_ahead = true;
    uint32_t epoch_ms = 100;
    uint32_t fault_deadline_ms = 5000;  // a toucher that waited so long is sent to the kernel's mapping
    uint32_t deadline_ms = 500;         // clients leave when the heartbeat is older; see wire::Reply
    std::string state_directory = {};   // empty: nothing is remembered between runs
    bool measure_disks = false;         // once each, when nothing was read for so long:
    uint32_t disk_idle_ms = 5000;
    GpuConfig gpu = {};
    uint64_t user_metadata_bytes =
        256 << 20;  // that tierd may need to keep book of one user's files; see user_shares.h
    std::string sample_source = "off";   // auto, hint, pebs, ibs, spe or off; see lib/sample/sources.h
    std::string sample_event = "loads";  // of pebs, ibs and spe: see pmu_use() in lib/sample/pmu_events.h
    uint32_t sample_cost_percent = 1;    // of one core, at most
};

inline constexpr uint64_t kMinBudgetExtents = 8;

class Engine : public SessionHandler, public Control {
  public:
    // Errors: bad_config with what to change; errno of what the kernel refused.
    static Result<std::unique_ptr<Engine>> start(const EngineConfig& config);
    // The same in two steps, for who wants to give up rights between them: only the first needs CAP_SYS_ADMIN.
    static ArenaStore open_arenas(const EngineConfig& config);
    static Result<std::unique_ptr<Engine>> start(const EngineConfig& config, ArenaStore arenas);

    // Orders every session back to the kernel's mapping, waits at most `patience_ms` for them to say so,
    // stores what was learned and stops the thread. Further calls answer busy.
    virtual void stop(uint32_t patience_ms) = 0;
    // Lines for EngineStatus::notes about parts outside the engine.
    virtual void add_notes(std::vector<std::string> notes) = 0;
};

}  // namespace tierd
