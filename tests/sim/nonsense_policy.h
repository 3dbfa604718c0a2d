// nonsense_policy.h - a policy that says whatever comes to mind: rows that do not exist, tiers that do not, victims that are
// pinned, the same thing ten times, and nothing at all when it is asked.
//
// Invariant: none. The engine's must hold with it.
#pragma once

#include <memory>

#include "lib/policy/policy.h"
#include "tests/sim/world.h"

namespace tierd::sim {

// Silent while `quiet`: then the machine can come to rest.
std::unique_ptr<Policy> make_nonsense_policy(World& world, const bool& quiet);

}  // namespace tierd::sim
