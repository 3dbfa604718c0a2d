#include "lib/policy/lru.h"

#include <algorithm>

namespace tierd {
namespace {

constexpr uint32_t kKeep = 4;          // the last touched extents are still being read
constexpr uint32_t kPinnedLooks = 64;  // pinned extents looked at again in an epoch
constexpr uint32_t kSiblings = 32;

}  // namespace

bool LruPolicy::known(const PolicyView& view, ExtentId extent) {
    if (extent >= view.extents.size()) return false;
    if (notes_.size() < view.extents.size()) {
        notes_.resize(view.extents.size());
        lists_.reserve_rows(view.extents.size());
    }
    return true;
}

bool LruPolicy::recent(const Note& note) const {
    return note.touch_clock != 0 && clock_ - note.touch_clock < kKeep;
}

void LruPolicy::model_open(const PolicyView& view, const PolicyModel& model) {
    read_ahead_.model_open(view, model);
    // A policy may be put in place while models are resident.
    for (uint32_t index = 0; index < model.extent_count; ++index) {
        ExtentId extent = model.first_extent + index;
        if (!known(view, extent)) return;
        bool resident = view.extents[extent].state == TIERD_EXTENT_RESIDENT;
        if (resident && lists_.list_of(extent) == ExtentLists::kNoList) lists_.push_back(by_age_, extent);
    }
}

void LruPolicy::model_close(const PolicyView&, uint32_t model) {
    read_ahead_.model_close(model);
}

void LruPolicy::fault(const PolicyView& view, ExtentId extent, Touch touch, PolicyDecisions& out) {
    if (!known(view, extent)) return;
    Note& note = notes_[extent];
    bool was_ahead = std::exchange(note.ahead, false);
    if (++clock_ == 0) clock_ = 1;
    note.touch_clock = clock_;
    note.wanted = touch == Touch::missing;
    if (lists_.list_of(extent) == by_age_) lists_.push_back(by_age_, extent);
    // Read-ahead takes unused memory, or a small part of the oldest.
    uint64_t extent_bytes = std::max(view.extents[extent].bytes, 1u);
    uint64_t free_bytes = view.dram.capacity_bytes - std::min(view.dram.used_bytes, view.dram.capacity_bytes);
    uint64_t capacity = std::max(free_bytes, view.dram.capacity_bytes / 16) / extent_bytes;
    ReadAheadLimits limits{static_cast<uint32_t>(std::min<uint64_t>(capacity, kMaxReadAhead)), true,
                           kSiblings};
    read_ahead_.touched(view, extent, touch, was_ahead, limits, out.read_ahead);
}

void LruPolicy::filled(const PolicyView& view, ExtentId extent) {
    if (!known(view, extent)) return;
    Note& note = notes_[extent];
    note.ahead = !std::exchange(note.wanted, false);
    lists_.push_back(by_age_, extent);
}

void LruPolicy::evicted(const PolicyView& view, ExtentId extent) {
    if (!known(view, extent)) return;
    if (notes_[extent].ahead) read_ahead_.wasted(view.extents[extent].model);
    // `wanted` stays: a thread may have touched it while its memory was being released.
    notes_[extent] = Note{.wanted = notes_[extent].wanted};
    lists_.remove(extent);
}

void LruPolicy::reclaim(const PolicyView& view, uint64_t needed_bytes, bool for_demand,
                        PolicyDecisions& out) {
    if (view.extents.empty() || !known(view, 0)) return;
    uint64_t named_bytes = 0;
    auto take = [&](ExtentId extent) {
        if (named_bytes >= needed_bytes) return;
        out.evict.push_back(extent);
        named_bytes += view.extents[extent].bytes;
    };
    std::vector<ExtentId> still_read;
    for (ExtentId extent = lists_.head(by_age_); extent != kNoExtent && named_bytes < needed_bytes;) {
        ExtentId next = lists_.next(extent);
        const tierd_extent& row = view.extents[extent];
        if (row.state == TIERD_EXTENT_ABSENT) {
            lists_.remove(extent);
        } else if (row.state == TIERD_EXTENT_RESIDENT && (row.flags & TIERD_EXTENT_PINNED)) {
            lists_.push_back(pinned_, extent);
        } else if (row.state == TIERD_EXTENT_RESIDENT && recent(notes_[extent])) {
            still_read.push_back(extent);
        } else if (row.state == TIERD_EXTENT_RESIDENT) {
            if (!for_demand && notes_[extent].ahead)
                return;  // the rest is worth more than what would be read
            take(extent);
        }
        extent = next;
    }
    if (!for_demand) return;
    std::ranges::for_each(still_read, take);
    for (ExtentId extent = lists_.head(pinned_); extent != kNoExtent; extent = lists_.next(extent)) {
        const tierd_extent& row = view.extents[extent];
        if (row.state == TIERD_EXTENT_RESIDENT && !(row.flags & TIERD_EXTENT_PINNED)) take(extent);
    }
}

void LruPolicy::epoch(const PolicyView& view, PolicyDecisions&) {
    if (view.extents.empty() || !known(view, 0)) return;
    for (uint32_t looks = std::min(kPinnedLooks, lists_.size(pinned_)); looks > 0; --looks) {
        ExtentId extent = lists_.head(pinned_);
        bool pinned = view.extents[extent].flags & TIERD_EXTENT_PINNED;
        lists_.push_back(pinned ? pinned_ : by_age_, extent);
    }
}

}  // namespace tierd
