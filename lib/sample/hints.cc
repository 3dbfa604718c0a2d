#include "lib/sample/hints.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace tierd {

namespace {

constexpr int kStepsADoubling = 4;
constexpr int kLeastExponent = -16;

int bucket_of(float rate_per_s, int buckets) {
    float step = (std::log2(rate_per_s) - kLeastExponent) * kStepsADoubling;
    return static_cast<int>(std::clamp(step, 0.0F, static_cast<float>(buckets - 1)));
}

float rate_at(int bucket) {
    return std::exp2(static_cast<float>(bucket) / kStepsADoubling + kLeastExponent);
}

}  // namespace

void TierBoundaries::add(float rate_per_s, uint64_t bytes) {
    bytes_[static_cast<size_t>(bucket_of(rate_per_s, kBuckets))] += bytes;
}

void TierBoundaries::finish(std::span<const uint64_t> capacities_bytes) {
    rates_per_s_.clear();
    const uint64_t hottest_bytes = std::reduce(bytes_.begin(), bytes_.end()) / kHottestPart;
    find(capacities_bytes);
    if (rates_per_s_.empty()) find(std::span(&hottest_bytes, 1));
    bytes_.fill(0);
}

void TierBoundaries::find(std::span<const uint64_t> capacities_bytes) {
    uint64_t above = 0, room = 0;
    int bucket = kBuckets, coldest_inside = kBuckets;
    for (uint64_t capacity : capacities_bytes) {
        room += capacity;
        for (; bucket > 0; bucket--) {
            uint64_t more = bytes_[static_cast<size_t>(bucket - 1)];
            if (above + more > room) break;
            above += more;
            if (more > 0) coldest_inside = bucket - 1;
        }
        if (bucket == 0) break;  // the rest fits in here
        // Between the coldest that fits and the hottest that does not.
        rates_per_s_.push_back(coldest_inside == kBuckets
                                   ? rate_at(bucket)
                                   : std::sqrt(rate_at(coldest_inside) * rate_at(bucket)));
    }
}

float TierBoundaries::weight(HeatEstimator::Rate rate) const {
    float nearest = 0;
    for (float boundary : rates_per_s_) {
        float distance = std::log(rate.per_s / boundary);
        float variance = 1 / (rate.observations + 0.5F) + 0.01F;
        nearest = std::max(nearest, std::exp(-distance * distance / (2 * variance)));
    }
    return 1 + kNearest * nearest;
}

float HintChooser::score_of(const tierd_extent& row, HeatEstimator::Rate rate) const {
    float cost = static_cast<float>(row.bytes) * std::sqrt(rate.per_s) * boundaries_.weight(rate);
    return cost / ((rate.observations + 1) * (rate.observations + 2));
}

std::span<const uint32_t> HintChooser::choose(std::span<const tierd_extent> rows,
                                              const HeatEstimator& estimator, size_t budget,
                                              const std::function<bool(uint32_t)>& may) {
    candidates_.clear();
    chosen_.clear();
    const auto size = static_cast<uint32_t>(rows.size());
    looked_count_ = static_cast<uint32_t>(std::min<size_t>(size, kRowsAnEpoch));
    if (size == 0) return chosen_;
    looked_first_ = next_ % size;
    next_ = (looked_first_ + looked_count_) % size;
    for (uint32_t i = 0; i < looked_count_; i++) {
        uint32_t extent = (looked_first_ + i) % size;
        const tierd_extent& row = rows[extent];
        HeatEstimator::Rate rate = estimator.rate(extent);
        if (rate.observations > 0) boundaries_.add(rate.per_s, row.bytes);
        bool mapped = row.state == TIERD_EXTENT_RESIDENT && (row.flags & TIERD_EXTENT_MAPPED) != 0;
        if (!mapped || estimator.armed(extent) || !may(extent)) continue;
        candidates_.push_back({score_of(row, rate), extent});
    }
    if (looked_first_ + looked_count_ >= size) boundaries_.finish(capacities_bytes_);
    size_t count = std::min(budget, candidates_.size());
    std::ranges::partial_sort(candidates_, candidates_.begin() + static_cast<std::ptrdiff_t>(count),
                              std::greater<>{}, &Candidate::score);
    for (size_t i = 0; i < count; i++) chosen_.push_back(candidates_[i].extent);
    std::ranges::sort(chosen_, {}, [&](uint32_t extent) { return estimator.rate(extent).per_s; });
    return chosen_;
}

void HintBudget::end_epoch(uint64_t wall_ns, uint64_t hints) {
    constexpr double kNewShare = 0.1;  // of an average over about ten epochs
    constexpr double kOldCost = 0.95;  // over about twenty: faults come epochs after their hints
    if (wall_ns == 0) return;
    const auto wall = static_cast<double>(wall_ns), spent = static_cast<double>(spent_ns_),
               waited = static_cast<double>(waited_ns_);
    spent_ns_ = waited_ns_ = 0;
    cost_share_ += kNewShare * (spent / wall - cost_share_);
    wait_share_ += kNewShare * (waited / wall - wait_share_);
    if (hints == 0) return;
    hints_ = kOldCost * hints_ + static_cast<double>(hints);
    hints_spent_ns_ = kOldCost * hints_spent_ns_ + spent;
    hints_waited_ns_ = kOldCost * hints_waited_ns_ + waited;
    // Fewer hints than allowed tell nothing about a larger budget.
    double factor = affordable(wall) / budget_;
    bool used = static_cast<double>(hints) > 0.5 * budget_;
    if (factor < 1 || used) budget_ *= std::clamp(factor, 0.8, 1.2);
    budget_ = std::clamp(budget_, kLeast, kMost);
}

// How many hints in such a time cost what they may, if one goes on to cost what it did.
double HintBudget::affordable(double wall_ns) const {
    double count = 2 * kMost;
    if (hints_spent_ns_ > 0) count = std::min(count, share_of_core_ * wall_ns * hints_ / hints_spent_ns_);
    if (hints_waited_ns_ > 0) count = std::min(count, kMostLossShare * wall_ns * hints_ / hints_waited_ns_);
    return count;
}

}  // namespace tierd
