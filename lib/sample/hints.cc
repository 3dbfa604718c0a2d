#include "lib/sample/hints.h"

#include <algorithm>
#include <cmath>

namespace tierd {

std::span<const uint32_t> HintChooser::choose(std::span<const tierd_extent> rows, const HeatLedger& ledger,
                                              size_t budget, const std::function<bool(uint32_t)>& may) {
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
        bool mapped = row.state == TIERD_EXTENT_RESIDENT && (row.flags & TIERD_EXTENT_MAPPED) != 0;
        if (!mapped || ledger.exposed(extent) || !may(extent)) continue;
        HeatLedger::Rate rate = ledger.rate(extent);
        float gain = std::sqrt(rate.per_s) / ((rate.observations + 1) * (rate.observations + 2));
        candidates_.push_back({gain, extent});
    }
    size_t count = std::min(budget, candidates_.size());
    std::ranges::partial_sort(candidates_, candidates_.begin() + static_cast<std::ptrdiff_t>(count),
                              std::greater<>{}, &Candidate::worth);
    for (size_t i = 0; i < count; i++) chosen_.push_back(candidates_[i].extent);
    return chosen_;
}

void HintBudget::end_epoch(uint64_t wall_ns, uint64_t hints) {
    constexpr double kNew = 0.1;  // of an average over about ten epochs: faults come epochs after their hints
    if (wall_ns == 0) return;
    cost_share_ += kNew * (static_cast<double>(spent_ns_) / static_cast<double>(wall_ns) - cost_share_);
    hints_ += kNew * (static_cast<double>(hints) - hints_);
    spent_ns_ = 0;
    // What so many cost tells how many may be; fewer hints than allowed tell nothing about a larger budget.
    double factor = cost_share_ > 0 ? share_of_core_ / cost_share_ : 1.2;
    bool used = hints_ > 0.5 * budget_;
    if (factor < 1 || used) budget_ *= std::clamp(factor, 0.8, 1.2);
    budget_ = std::clamp(budget_, kLeast, kMost);
}

}  // namespace tierd
