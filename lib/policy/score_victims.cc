#include "lib/policy/score_victims.h"

#include <algorithm>
#include <utility>

#include "lib/base/clock.h"

namespace tierd {
namespace {

constexpr size_t kLeastBatch = 256;
constexpr size_t kMaxChanged = 1024;           // more than a scan is worth
constexpr size_t kBatchShare = 64;             // of the extents that may go, at least
constexpr uint64_t kFreshNs = 100 * kNsPerMs;  // worths change with touches and epochs
constexpr uint64_t kScanNs = 10;  // an extent; reckoned, not measured, so that a replay decides the same
constexpr uint64_t kPause = 20;   // scans' lengths between two

}  // namespace

// What a batch holds ages: the worth of what was touched may come later than the news of the touch, and what rose is passed
// over. So before demand takes what is to be held, the table is looked at again.
void ScoreVictims::name(const PolicyView& view, std::span<const tierd_extent_ctx> ctxs, Need need,
                        std::vector<ExtentId>& out) {
    const size_t before = out.size();
    uint64_t below = need.for_demand ? TIERD_HOLD : need.below;
    if (view.now_ns >= stale_at_ns_ || changed_.size() >= kMaxChanged)
        scan(view, ctxs);
    else
        add_changed(view, ctxs);
    uint64_t named = take(view, ctxs, need.bytes, below, out);
    bool may_scan = need.for_demand || (next_ == batch_.size() && view.now_ns >= again_at_ns_);
    if (named >= need.bytes || !may_scan) return;
    scan(view, ctxs);
    std::vector<ExtentId> known(out.begin() + static_cast<std::ptrdiff_t>(before), out.end());
    std::ranges::sort(known);
    std::erase_if(batch_, [&](const Candidate& c) { return std::ranges::binary_search(known, c.extent); });
    named += take(view, ctxs, need.bytes - named, below, out);
    if (!need.for_demand || named >= need.bytes) return;
    for (; next_ < batch_.size() && named < need.bytes; next_++) {
        out.push_back(batch_[next_].extent);
        named += view.extents[batch_[next_].extent].bytes;
    }
}

void ScoreVictims::changed(ExtentId extent) {
    if (changed_.size() < kMaxChanged) changed_.push_back(extent);
}

// What was filled or touched since the scan takes its place among what it found.
void ScoreVictims::add_changed(const PolicyView& view, std::span<const tierd_extent_ctx> ctxs) {
    for (ExtentId extent : std::exchange(changed_, {})) {
        if (extent >= view.extents.size()) continue;
        const tierd_extent& row = view.extents[extent];
        if (row.state != TIERD_EXTENT_RESIDENT || (row.flags & TIERD_EXTENT_PINNED) != 0) continue;
        uint64_t score = extent < ctxs.size() ? ctxs[extent].score : 0;
        Candidate candidate{score, std::max(row.last_touch_ns, row.filled_ns), extent};
        if (!is_all_ && (batch_.empty() || batch_.back() < candidate)) continue;
        auto place =
            std::upper_bound(batch_.begin() + static_cast<std::ptrdiff_t>(next_), batch_.end(), candidate);
        bool is_there = place != batch_.begin() && *std::prev(place) == candidate;
        if (!is_there) batch_.insert(place, candidate);
    }
}

void ScoreVictims::scan(const PolicyView& view, std::span<const tierd_extent_ctx> ctxs) {
    batch_.clear();
    changed_.clear();
    next_ = 0;
    for (ExtentId extent = 0; extent < view.extents.size(); extent++) {
        const tierd_extent& row = view.extents[extent];
        if (row.state != TIERD_EXTENT_RESIDENT || (row.flags & TIERD_EXTENT_PINNED) != 0) continue;
        uint64_t score = extent < ctxs.size() ? ctxs[extent].score : 0;
        batch_.push_back({score, std::max(row.last_touch_ns, row.filled_ns), extent});
    }
    size_t wanted = std::max(kLeastBatch, batch_.size() / kBatchShare);
    is_all_ = batch_.size() <= wanted;
    if (!is_all_) {
        std::nth_element(batch_.begin(), batch_.begin() + static_cast<std::ptrdiff_t>(wanted), batch_.end());
        batch_.resize(wanted);
    }
    std::sort(batch_.begin(), batch_.end());
    again_at_ns_ = view.now_ns + view.extents.size() * kScanNs * kPause;
    stale_at_ns_ = std::max(again_at_ns_, view.now_ns + kFreshNs);
}

uint64_t ScoreVictims::take(const PolicyView& view, std::span<const tierd_extent_ctx> ctxs,
                            uint64_t needed_bytes, uint64_t below, std::vector<ExtentId>& out) {
    uint64_t named = 0;
    for (; next_ < batch_.size() && named < needed_bytes; next_++) {
        const Candidate& candidate = batch_[next_];
        if (candidate.score >= below) break;
        if (candidate.extent >= view.extents.size()) continue;
        const tierd_extent& row = view.extents[candidate.extent];
        uint64_t score = candidate.extent < ctxs.size() ? ctxs[candidate.extent].score : 0;
        if (row.state != TIERD_EXTENT_RESIDENT || (row.flags & TIERD_EXTENT_PINNED) != 0 ||
            score > candidate.score)
            continue;
        // Of equals the longest untouched: one that was touched since waits for the next batch.
        if (score == candidate.score && std::max(row.last_touch_ns, row.filled_ns) > candidate.touched_ns)
            continue;
        out.push_back(candidate.extent);
        named += row.bytes;
    }
    return named;
}

}  // namespace tierd
