// orders.h - the administrator of a chaos run: budgets, pins, tiers, preloads and policies, good ones and bad ones, and models
// that come and go.
#pragma once

#include <atomic>

#include "tests/chaos/keeper.h"
#include "tests/chaos/models.h"
#include "tests/chaos/tally.h"

namespace tierd::chaos {

// Gives orders until `end`. On a thread of its own.
void keep_ordering(const Keeper& keeper, Library& library, Tally& tally, const std::atomic<bool>& end,
                   uint64_t seed);

}  // namespace tierd::chaos
