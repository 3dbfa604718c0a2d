// references.h - the references that policies are compared with in a replay.
//
// Owns:      the score of each extent.
// Invariant: the resident extent of the lowest score is evicted first.
// Callers:   the simulator, one thread. reclaim() walks the whole table.
// Fails:     never.
//
// They are no policies: they need every touch, which tierd can't see, and they read nothing ahead.
#pragma once

#include <memory>

#include "lib/policy/policy.h"
#include "lib/replay/workload.h"

namespace tierd {

// The least recently touched goes first.
std::unique_ptr<Policy> make_reference_lru(const Workload& workload);

// The clairvoyant optimum (Belady): the one wanted furthest in the future goes first. Nobody needs fewer reads when all
// extents are of one size and one reader touches them; with several sizes or readers somebody might, by little.
std::unique_ptr<Policy> make_belady(const Workload& workload);

}  // namespace tierd
