// core.h - the owners on the engine's thread, wired together. No logic: each header says what its owner does.
//
// Owns:      all of them; each may use those that stand before it, and Loop all.
// Callers:   the engine's thread; everybody else posts to the mailbox.
#pragma once

#include <functional>
#include <memory>

#include "lib/engine/access_sampler.h"
#include "lib/engine/admin.h"
#include "lib/engine/engine.h"
#include "lib/engine/fault_server.h"
#include "lib/engine/files.h"
#include "lib/engine/gpu_leases.h"
#include "lib/engine/heartbeat.h"
#include "lib/engine/hinter.h"
#include "lib/engine/huge_mapper.h"
#include "lib/engine/kernel_backend.h"
#include "lib/engine/loop.h"
#include "lib/engine/mailbox.h"
#include "lib/engine/placement_auditor.h"
#include "lib/engine/readiness.h"
#include "lib/engine/sessions.h"
#include "lib/engine/tier_admin.h"
#include "lib/placement/placement.h"

namespace tierd {

struct Core {
    struct Parts {
        std::unique_ptr<Reader> reader;
        BounceBuffers bounce;
        std::unique_ptr<Policy> policy;
        ExtentTable table;
        FileWatch watch;
        MemoryEvents memory_events;
        Readiness readiness;
        wire::Heartbeat* heartbeat;  // the page that clients watch
        Mailbox* mailbox;
        Worker* evictor;
        Worker* state_thread;                       // writes what was learned into the state database
        std::shared_ptr<StateDb> state;             // used on state_thread only; may be null
        GpuArbitrator* leases = nullptr;            // null: there is no GPU memory to lease
        std::function<void()> grow_policy = [] {};  // see PolicyHost::Hooks::outgrown
    };
    Core(const EngineConfig& engine_config, Parts parts);

    const EngineConfig config;
    const uint64_t started_ns;
    Mailbox& mailbox;
    Worker& state_thread;
    Readiness readiness;
    HeartbeatWriter heartbeat;
    KernelBackend backend;
    Placement placement;
    FileRegistry files;
    AccessSampler sampler;
    Sessions sessions;
    Hinter hinter;
    HugeMapper huge;
    FaultServer faults;
    PlacementAuditor auditor;
    TierAdmin tier_admin;
    GpuLeases gpu_leases;
    AdminService admin;
    Loop loop;
};

}  // namespace tierd
