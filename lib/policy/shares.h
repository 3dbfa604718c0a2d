// shares.h - how much of the budget each model may use: small models whole, large ones equal parts of the rest.
//
// Invariant: the shares add up to at most the capacity, and no model gets more than it requests.
// Callers:   any thread; pure.
#pragma once

#include <cstdint>
#include <vector>

namespace tierd {

// `wants_bytes`: what each model would hold if it could. Returns a share for each, in the same order. O(n log
// n).
std::vector<uint64_t> fair_shares(const std::vector<uint64_t>& wants_bytes, uint64_t capacity_bytes);

}  // namespace tierd
