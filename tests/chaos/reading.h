// reading.h - the engines of a chaos run: processes that start, map models, read and write them, fork and die, and check every
// byte they see.
#pragma once

#include <atomic>
#include <string>

#include "tests/chaos/models.h"
#include "tests/chaos/tally.h"

namespace tierd::chaos {

// Runs one process after another until `end`. On a thread of its own.
void keep_reading(const itest::WorkDir& dir, const std::string& socket, Library& library, Tally& tally,
                  const std::atomic<bool>& end, uint64_t seed);

}  // namespace tierd::chaos
