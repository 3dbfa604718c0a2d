#include "lib/placement/evictor.h"

#include "lib/base/invariant.h"

#include <algorithm>
#include <vector>

namespace tierd {

static constexpr uint64_t kWatermarkExtents = 4;

Evictor::Evictor(Extents& extents, TierTable& tiers, Mover& mover, PolicyHost& policy, Backend& backend,
                 EngineCounters& counters, uint64_t extent_bytes)
    : extents_(extents),
      tiers_(tiers),
      mover_(mover),
      policy_(policy),
      backend_(backend),
      counters_(counters),
      extent_bytes_(extent_bytes) {}

bool Evictor::make_room(uint64_t bytes, bool for_demand, ExtentId wanted) {
    uint64_t coming = tiers_.free_bytes() + evicting_bytes_;
    if (coming >= bytes) return true;
    return reclaim(bytes - coming, for_demand, wanted) >= bytes - coming;
}

// The policy names the victims; when it does not name enough for a demand miss, the oldest go. Returns the bytes on their way.
uint64_t Evictor::reclaim(uint64_t bytes, bool for_demand, ExtentId wanted) {
    uint64_t freed = 0;
    for (ExtentId id : policy_.reclaim(bytes, for_demand, wanted).evict) {
        if (freed >= bytes) break;
        if (start(id))
            freed += extents_[id].bytes;
        else
            counters_.decisions_refused++;
    }
    if (freed < bytes && for_demand) freed += evict_by_age(bytes - freed);
    return freed;
}

void Evictor::keep_watermark() {
    uint64_t low = std::min(kWatermarkExtents * extent_bytes_, tiers_.usable_bytes() / 16);
    if (tiers_.free_bytes() + evicting_bytes_ < low) make_room(low, false);
}

// make_room() counts what is free; to be over the capacity is to be short by as much.
void Evictor::shrink_to(uint64_t capacity_bytes) {
    uint64_t used = tiers_.used_bytes(), may_have = capacity_bytes + evicting_bytes_;
    if (used > may_have) reclaim(used - may_have, true, kNoExtent);
}

uint64_t Evictor::evict_by_age(uint64_t bytes, uint8_t tier) {
    std::vector<std::pair<uint64_t, ExtentId>> candidates;
    for (ExtentId id = 0; id < extents_.size(); id++) {
        const tierd_extent& row = extents_[id];
        bool here = tier == kNoTier || row.tier == tier;
        if (here && row.state == TIERD_EXTENT_RESIDENT && (row.flags & TIERD_EXTENT_PINNED) == 0 &&
            !mover_.is_moving(id))
            candidates.emplace_back(std::max(row.last_touch_ns, row.filled_ns), id);
    }
    std::sort(candidates.begin(), candidates.end());
    uint64_t freed = 0;
    for (auto& [age, id] : candidates) {
        if (freed >= bytes) break;
        if (start(id)) freed += extents_[id].bytes;
    }
    return freed;
}

bool Evictor::free_huge_page() {
    ExtentId oldest = kNoExtent;
    for (ExtentId id = 0; id < extents_.size(); id++) {
        const PlacedFile* file = extents_.find(id);
        const tierd_extent& row = extents_[id];
        if (file == nullptr || file->backing != Backing::hugetlb || row.state != TIERD_EXTENT_RESIDENT ||
            (row.flags & TIERD_EXTENT_PINNED) != 0)
            continue;
        if (oldest == kNoExtent || row.last_touch_ns < extents_[oldest].last_touch_ns) oldest = id;
    }
    return oldest != kNoExtent && start(oldest);
}

bool Evictor::start(ExtentId id, bool not_whole) {
    PlacedFile* file = extents_.find(id);
    if (file == nullptr) return false;
    const tierd_extent& row = extents_[id];
    bool pinned = (row.flags & TIERD_EXTENT_PINNED) != 0 && !file->changed && !not_whole;
    if (row.state != TIERD_EXTENT_RESIDENT || pinned) return false;
    if (mover_.evict_afterwards(id, not_whole)) return false;
    if ((row.flags & TIERD_EXTENT_UNTOUCHED) != 0) counters_.fills_wasted++;
    release(id, true);
    return true;
}

void Evictor::release(ExtentId id, bool was_published) {
    extents_.set_state(id, TIERD_EXTENT_EVICTING);
    if (was_published) extents_.heat().arm(id, backend_.now_ns(), false);
    extents_.set_huge(id, false);
    evicting_bytes_ += extents_[id].bytes;
    backend_.release(extents_.file_of(id), id, was_published);
}

void Evictor::on_released(ExtentId id, bool was_published) {
    tierd_extent& row = extents_[id];
    invariant(evicting_bytes_ >= row.bytes, "each release ends once");
    evicting_bytes_ -= row.bytes;
    tiers_.give_back(row.tier, row.bytes);
    if (auto other = mover_.take_split(id)) tiers_.give_back(*other, row.bytes);
    if (was_published) {
        counters_.evictions++;
        counters_.bytes_evicted += extents_.file_of(id).bytes_in(id);
    }
    extents_.set_state(id, TIERD_EXTENT_ABSENT);
    row.tier = TIERD_NO_TIER;
    extents_.set_flag(id, TIERD_EXTENT_UNTOUCHED | TIERD_EXTENT_MAPPED, false);
    if (was_published) policy_.evicted(id);
}

}  // namespace tierd
