#include "lib/policy/tiering.h"

#include <algorithm>
#include <cmath>

namespace tierd {

namespace {

constexpr size_t kCandidates = 64;         // kept of each kind in each tier: as many as an epoch may move
constexpr double kTwiceAsHot = 1.0;        // of scores: a logarithm to base 2
constexpr uint32_t kOneTouch = 1u << 16;   // of heat
constexpr double kWorthMoving = 1.5;       // touches, decayed: once is chance
constexpr uint64_t kKeepFreeDivisor = 16;  // a tier above others keeps so much of itself free for what comes
constexpr uint64_t kKeepFreeBytes = 8 << 20;

bool may_move(const tierd_extent& row) {
    return row.state == TIERD_EXTENT_RESIDENT && row.tier != TIERD_NO_TIER;
}

double heat_now(const tierd_extent& row, uint64_t now_ns) {
    double age = static_cast<double>(now_ns - std::min<uint64_t>(now_ns, row.last_touch_ns));
    return row.heat / static_cast<double>(kOneTouch) * std::exp2(-age / static_cast<double>(kTierHalfLifeNs));
}

uint64_t keep_free(const tierd_tier_info& tier) {
    return std::min<uint64_t>(tier.capacity_bytes / kKeepFreeDivisor, kKeepFreeBytes);
}

template <class Before>
void insert_best(auto& list, const auto& candidate, Before before) {
    if (list.size() >= kCandidates && !before(candidate, list.back())) return;
    list.insert(std::upper_bound(list.begin(), list.end(), candidate, before), candidate);
    if (list.size() > kCandidates) list.pop_back();
}

}  // namespace

double heat_score(const tierd_extent& row) noexcept {
    double touched = static_cast<double>(std::max(row.last_touch_ns, row.filled_ns));
    return std::log2(row.heat + 1.0) + touched / static_cast<double>(kTierHalfLifeNs);
}

void TierPlanner::plan(const PolicyView& view, PolicyDecisions& out, size_t capacity) {
    by_rank_.clear();
    for (size_t number = 1; number < view.tiers.size(); number++)
        if (view.tiers[number].capacity_bytes > 0 && view.tiers[number].draining == 0)
            by_rank_.push_back(static_cast<uint8_t>(number));
    if (by_rank_.size() < 2) return;
    std::ranges::sort(by_rank_, {}, [&](uint8_t number) { return view.tiers[number].rank; });
    free_.assign(view.tiers.size(), 0);
    for (uint8_t number : by_rank_) {
        const tierd_tier_info& tier = view.tiers[number];
        free_[number] = tier.capacity_bytes - std::min<uint64_t>(tier.capacity_bytes, tier.used_bytes);
    }
    look(view);
    promote(view, out, capacity);
    demote(view, out, capacity);
}

// Finds this epoch's candidates in the next slice of the table.
void TierPlanner::look(const PolicyView& view) {
    lists_.assign(view.tiers.size(), {});
    auto rows = static_cast<uint32_t>(view.extents.size());
    if (cursor_ >= rows) cursor_ = 0;
    uint32_t end = std::min(rows, cursor_ + kSlice);
    for (ExtentId id = cursor_; id < end; id++) {
        const tierd_extent& row = view.extents[id];
        if (!may_move(row) || row.tier >= lists_.size()) continue;
        Candidate candidate{heat_score(row), id};
        Lists& lists = lists_[row.tier];
        auto hotter = [](const Candidate& a, const Candidate& b) { return a.score > b.score; };
        auto colder = [](const Candidate& a, const Candidate& b) { return a.score < b.score; };
        if (heat_now(row, view.now_ns) >= kWorthMoving) insert_best(lists.hot, candidate, hotter);
        if ((row.flags & TIERD_EXTENT_PINNED) == 0) insert_best(lists.cold, candidate, colder);
    }
    cursor_ = end;
}

void TierPlanner::promote(const PolicyView& view, PolicyDecisions& out, size_t capacity) {
    for (size_t from = 1; from < by_rank_.size(); from++) {
        for (const Candidate& hot : lists_[by_rank_[from]].hot) {
            uint64_t bytes = view.extents[hot.extent].bytes;
            for (size_t to = 0; to < from && out.moves.size() < capacity; to++) {
                uint8_t target = by_rank_[to];
                auto priority = static_cast<uint32_t>(view.extents[hot.extent].heat / kOneTouch + 2);
                if (free_[target] >= bytes + keep_free(view.tiers[target])) {
                    free_[target] -= bytes;
                    out.moves.push_back({hot.extent, target, priority});
                    break;
                }
                auto& cold = lists_[target].cold;
                if (cold.empty() || hot.score < cold.front().score + kTwiceAsHot) continue;
                out.moves.push_back({cold.front().extent, by_rank_[from], priority});
                out.moves.push_back({hot.extent, target, priority});
                cold.erase(cold.begin());
                break;
            }
        }
    }
}

// Ahead of pressure: what comes next is to find room in the fast tier, and nothing that is cold need be dropped while a
// slower tier could have it.
void TierPlanner::demote(const PolicyView& view, PolicyDecisions& out, size_t capacity) {
    for (size_t from = 0; from + 1 < by_rank_.size(); from++) {
        uint8_t number = by_rank_[from], below = by_rank_[from + 1];
        uint64_t wanted = keep_free(view.tiers[number]);
        for (const Candidate& cold : lists_[number].cold) {
            uint64_t bytes = view.extents[cold.extent].bytes;
            bool welcome = free_[below] >= bytes + keep_free(view.tiers[below]);
            if (free_[number] >= wanted || !welcome || out.moves.size() >= capacity) break;
            bool chosen =
                std::ranges::any_of(out.moves, [&](auto& move) { return move.extent == cold.extent; });
            if (chosen) continue;
            free_[number] += bytes;
            free_[below] -= bytes;
            out.moves.push_back({cold.extent, below, 1});
        }
    }
}

}  // namespace tierd
