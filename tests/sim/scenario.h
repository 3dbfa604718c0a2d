// scenario.h - one run: the engine's thread, the disk, the evictor, the migrator, sessions and an administrator take turns as
// the seed says, and after each of them what must hold is looked at.
//
// Callers:   main.cc. A run that returns has kept every promise; one that breaks a promise ends the process (World::violation).
#pragma once

#include "tests/sim/world.h"

namespace tierd::sim {

struct RunOptions {
    Mutation mutation = Mutation::none;
    bool verbose = false;
    // A fuzzer's: they make the choices as far as they go, and the policy is the one that talks nonsense.
    std::span<const uint8_t> choices = {};
};

struct RunCounts {
    uint64_t runs = 0;
    uint64_t steps = 0;
    uint64_t touches_waited = 0;
    uint64_t fills = 0;
    uint64_t evictions = 0;
    uint64_t moves = 0;
    uint64_t fall_backs = 0;
    uint64_t generations = 0;
    void add(const RunCounts& other);
};

RunCounts run_seed(uint64_t seed, const RunOptions& options);

}  // namespace tierd::sim
