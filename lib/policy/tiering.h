// tiering.h - the default policy across memory tiers: promotes hot extents, demotes cold ones to make space.
//
// Owns:      the row at which the next epoch continues.
// Invariant: with one tier it proposes nothing and reads no row. It promotes only an extent that was touched more than
//            once lately, and never in exchange for one that is nearly as hot: two extents do not keep changing places.
// Callers:   the engine's thread. An epoch reads at most kSlice rows (about a millisecond).
// Fails:     never.
#pragma once

#include <vector>

#include "lib/policy/policy.h"

namespace tierd {

// How hot an extent is, as a number that can be compared whatever the time: heat halves every kTierHalfLifeNs, so its
// logarithm falls by the clock, and the clock is the same for all.
double heat_score(const tierd_extent& row) noexcept;
inline constexpr uint64_t kTierHalfLifeNs = 10'000'000'000;

class TierPlanner {
  public:
    // Appends moves: promotions, exchanges (the cold one's demotion is directly before the hot one's promotion), and
    // demotions ahead of pressure. `out` then has at most `capacity` moves.
    void plan(const PolicyView& view, PolicyDecisions& out, size_t capacity);

  private:
    struct Candidate {
        double score = 0;
        ExtentId extent = kNoExtent;
    };
    struct Lists {
        std::vector<Candidate> hot;   // in each tier but the fastest, the hottest first
        std::vector<Candidate> cold;  // in each tier but the slowest, the coldest first
    };
    void look(const PolicyView& view);
    void promote(const PolicyView& view, PolicyDecisions& out, size_t capacity);
    void demote(const PolicyView& view, PolicyDecisions& out, size_t capacity);

    static constexpr uint32_t kSlice = 128 * 1024;
    std::vector<uint8_t> by_rank_;  // tier numbers, the fastest first
    std::vector<Lists> lists_;      // by tier number
    std::vector<uint64_t> free_;    // by tier number: what this epoch has not promised yet
    uint32_t cursor_ = 0;
};

// A built-in policy that also places extents among tiers.
class TieredPolicy final : public Policy {
  public:
    explicit TieredPolicy(std::unique_ptr<Policy> inner) : inner_(std::move(inner)) {}

    std::string_view name() const override { return inner_->name(); }
    void model_open(const PolicyView& view, const PolicyModel& model) override {
        inner_->model_open(view, model);
    }
    void model_close(const PolicyView& view, uint32_t model) override { inner_->model_close(view, model); }
    void first_session(const PolicyView& view, uint32_t model, PolicyDecisions& out) override {
        inner_->first_session(view, model, out);
    }
    void last_session(const PolicyView& view, uint32_t model, PolicyDecisions& out) override {
        inner_->last_session(view, model, out);
    }
    void collect(const PolicyView& view, PolicyDecisions& out) override { inner_->collect(view, out); }
    void fault(const PolicyView& view, ExtentId extent, Touch touch, PolicyDecisions& out) override {
        inner_->fault(view, extent, touch, out);
    }
    void filled(const PolicyView& view, ExtentId extent) override { inner_->filled(view, extent); }
    void evicted(const PolicyView& view, ExtentId extent) override { inner_->evicted(view, extent); }
    void reclaim(const PolicyView& view, uint64_t needed_bytes, bool for_demand,
                 PolicyDecisions& out) override {
        inner_->reclaim(view, needed_bytes, for_demand, out);
    }
    void tier_change(const PolicyView& view, uint8_t tier, PolicyDecisions& out) override {
        inner_->tier_change(view, tier, out);
    }
    void epoch(const PolicyView& view, PolicyDecisions& out) override {
        inner_->epoch(view, out);
        planner_.plan(view, out, kMovesAnEpoch);
    }

  private:
    static constexpr size_t kMovesAnEpoch = 64;
    std::unique_ptr<Policy> inner_;
    TierPlanner planner_;
};

}  // namespace tierd
