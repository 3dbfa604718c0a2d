// hints.h - which extents to expose next, and how many may be in an epoch.
//
// Owns:      where in the table the search stands, where tiers meet, and what a hint was found to cost.
// Invariant: an epoch exposes at most budget() extents, and the budget follows what one was found to cost, so that hints cost
//            tierd at most `share_of_core`, and readers at most kMostLossShare of a thread's time. Pauses teach nothing:
//            who begins to read again meets no more hints than before.
// Callers:   the engine's thread only.
//
// What one more observation is worth: the variance of a rate's logarithm is about 1/n after n observations, so the
// next takes away 1/((n+1)(n+2)). To have misplaced an extent costs its bytes as often as it is touched: bytes times rate, of
// which the square root of the rate stands between ranking all extents equally well and knowing only the hottest. And only
// who may stand on the wrong side of a boundary between tiers can be misplaced: the nearer, the more it is worth.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "bpf/tierd_policy.h"
#include "lib/sample/heat.h"

namespace tierd {

// At which rates extents fall from one tier into the next, were all placed by their rates.
class TierBoundaries {
  public:
    // An extent that was looked at in this pass over the table.
    void add(float rate_per_s, uint64_t bytes);
    // The pass is over. `capacities_bytes`: of the memory tiers, the fastest first.
    void finish(std::span<const uint64_t> capacities_bytes);
    // By how much more it is worth to know this extent better: 1 far from every boundary, 1 + kNearest at one. What is known
    // little about may be near from further away.
    float weight(HeatEstimator::Rate rate) const;
    const std::vector<float>& rates_per_s() const { return rates_per_s_; }

  private:
    void find(std::span<const uint64_t> capacities_bytes);

    static constexpr float kNearest = 3;
    static constexpr uint64_t kHottestPart = 10;  // a tenth
    static constexpr int kBuckets = 128;  // quarters of a doubling, from 2^-16 to 2^16 touches a second
    std::array<uint64_t, kBuckets> bytes_{};
    std::vector<float> rates_per_s_;
};

class HintChooser {
  public:
    static constexpr size_t kRowsAnEpoch = 4096;  // looked at: about 50 µs

    // Of the next rows of the table, the most `budget` that are worth most. Only resident, mapped, not exposed ones for
    // which `may` says yes. The coldest comes first: whoever touches the first of them stands still until all are exposed.
    // Valid until the next call.
    std::span<const uint32_t> choose(std::span<const tierd_extent> rows, const HeatEstimator& estimator,
                                     size_t budget, const std::function<bool(uint32_t)>& may);
    // As of the next pass over the table.
    void see_tiers(std::vector<uint64_t> capacities_bytes) {
        capacities_bytes_ = std::move(capacities_bytes);
    }
    // The rows that the last call looked at: [first, first + count), wrapping.
    uint32_t looked_first() const { return looked_first_; }
    uint32_t looked_count() const { return looked_count_; }

  private:
    struct Candidate {
        float score = 0;
        uint32_t extent = 0;
    };
    uint32_t next_ = 0;
    uint32_t looked_first_ = 0;
    uint32_t looked_count_ = 0;
    float score_of(const tierd_extent& row, HeatEstimator::Rate rate) const;

    std::vector<Candidate> candidates_;
    std::vector<uint32_t> chosen_;
    std::vector<uint64_t> capacities_bytes_;
    TierBoundaries boundaries_;
};

class HintBudget {
  public:
    static constexpr double kMost = 128;  // an epoch
    static constexpr double kMostLossShare = 0.02;
    // What a touch of what was hinted costs its thread beside the wait that tierd sees: its fault, its own wake-up, and the
    // caches and translations that it finds colder.
    static constexpr uint64_t kUnseenNs = 100'000;
    explicit HintBudget(double share_of_core) : share_of_core_(share_of_core) {}

    void spent(uint64_t cpu_ns) { spent_ns_ += cpu_ns; }
    // A thread stood still for so long, for having touched what was hinted.
    void waited(uint64_t wait_ns) { waited_ns_ += wait_ns; }
    // It is awake again.
    void touched() { waited_ns_ += kUnseenNs; }
    // An epoch is over: `wall_ns` of it, and `hints` extents were exposed in it.
    void end_epoch(uint64_t wall_ns, uint64_t hints);
    size_t budget() const { return static_cast<size_t>(budget_); }
    double cost_share() const { return cost_share_; }  // of one core, over the last seconds
    double wait_share() const { return wait_share_; }  // of one thread's time, all waits added up

  private:
    static constexpr double kLeast = 2;
    double affordable(double wall_ns) const;

    double share_of_core_;
    double budget_ = 8;
    double cost_share_ = 0;
    double wait_share_ = 0;
    // Of the epochs with hints, the last count most.
    double hints_ = 0;
    double hints_spent_ns_ = 0;
    double hints_waited_ns_ = 0;
    uint64_t spent_ns_ = 0;
    uint64_t waited_ns_ = 0;
};

}  // namespace tierd
