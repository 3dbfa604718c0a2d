// hints.h - which extents to expose next, and how many may be in an epoch.
//
// Owns:      where in the table the search stands, and what hints were found to cost.
// Invariant: an epoch exposes at most budget() extents, and the budget follows the measured CPU time so that hints
//            cost at most `share_of_core`.
// Callers:   the engine's thread only.
//
// What one more observation is worth: the variance of a rate's logarithm is about 1/n after n observations, so the
// next takes away 1/((n+1)(n+2)); and to have misplaced an extent costs as often as it is touched. The
// square root of the rate stands between ranking all extents equally well and knowing only the hottest.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "bpf/tierd_policy.h"
#include "lib/sample/heat.h"

namespace tierd {

class HintChooser {
  public:
    static constexpr size_t kRowsAnEpoch = 4096;  // looked at: about 50 µs

    // Of the next rows of the table, the most `budget` that are worth most. Only resident, mapped, not exposed ones for
    // which `may` says yes. Valid until the next call.
    std::span<const uint32_t> choose(std::span<const tierd_extent> rows, const HeatLedger& ledger,
                                     size_t budget, const std::function<bool(uint32_t)>& may);
    // The rows that the last call looked at: [first, first + count), wrapping.
    uint32_t looked_first() const { return looked_first_; }
    uint32_t looked_count() const { return looked_count_; }

  private:
    struct Candidate {
        float worth = 0;
        uint32_t extent = 0;
    };
    uint32_t next_ = 0;
    uint32_t looked_first_ = 0;
    uint32_t looked_count_ = 0;
    std::vector<Candidate> candidates_;
    std::vector<uint32_t> chosen_;
};

class HintBudget {
  public:
    static constexpr double kMost = 128;  // an epoch
    explicit HintBudget(double share_of_core) : share_of_core_(share_of_core) {}

    void spent(uint64_t cpu_ns) { spent_ns_ += cpu_ns; }
    // An epoch is over: `wall_ns` of it, and `hints` extents were exposed in it.
    void end_epoch(uint64_t wall_ns, uint64_t hints);
    size_t budget() const { return static_cast<size_t>(budget_); }
    double cost_share() const { return cost_share_; }  // of one core, over the last seconds

  private:
    static constexpr double kLeast = 2;
    double share_of_core_;
    double budget_ = 8;
    double cost_share_ = 0;
    double hints_ = 0;  // an epoch, over the last seconds
    uint64_t spent_ns_ = 0;
};

}  // namespace tierd
