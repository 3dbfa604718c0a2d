#include "lib/placement/drainer.h"

#include <fmt/format.h>

#include <algorithm>

#include "lib/base/bytes.h"

namespace tierd {

namespace {

constexpr size_t kDrainMoves = 32;           // of a drain, under way at once
constexpr uint32_t kDrainRows = 256 * 1024;  // looked at in an epoch
constexpr uint32_t kDrainPriority = 1;       // after promotions that somebody waits for

}  // namespace

uint64_t Drainer::shrink(const Tier& tier, uint64_t bytes) {
    uint64_t leaving = mover_.leaving_bytes(tier.number) + evictor_.evicting_bytes();
    if (leaving >= bytes) return leaving;
    for (ExtentId id = 0; id < extents_.size() && leaving < bytes; id++) {
        const tierd_extent& row = extents_[id];
        if (row.tier != tier.number || row.state != TIERD_EXTENT_RESIDENT || mover_.is_moving(id)) continue;
        for (Tier* other : tiers_.by_speed())
            if (other->rank > tier.rank && mover_.start(id, other->number, kDrainPriority) == Refusal::none)
                break;
        if (mover_.is_moving(id)) leaving += row.bytes;
    }
    return leaving < bytes ? leaving + evictor_.evict_by_age(bytes - leaving, tier.number) : leaving;
}

bool Drainer::step(Job& job, bool is_reading) {
    const Tier& tier = *tiers_.find(job.drains);
    uint64_t used = tier.used_bytes();
    job.status.total_bytes = std::max(job.status.total_bytes, used);
    job.status.done_bytes = job.status.total_bytes - used;
    if (used == 0) return false;
    for (uint32_t looked = 0; looked < kDrainRows && mover_.under_way() < kDrainMoves; looked++) {
        if (job.next >= extents_.size()) return next_pass(job, is_reading);
        ExtentId id = job.next++;
        const tierd_extent& row = extents_[id];
        if (row.tier != tier.number || row.state != TIERD_EXTENT_RESIDENT || mover_.is_moving(id)) continue;
        bool went = false;
        for (Tier* other : tiers_.by_speed())
            went = went || mover_.start(id, other->number, kDrainPriority) == Refusal::none;
        went = went || evictor_.start(id);
        (went ? job.leaving_bytes : job.stuck_bytes) += row.bytes;
    }
    return true;
}

// The whole table was looked at. False when nothing went, and nothing is on its way: then nothing ever will.
bool Drainer::next_pass(Job& job, bool is_reading) {
    bool goes_on = job.leaving_bytes > 0 || !mover_.is_idle() || evictor_.evicting_bytes() > 0 || is_reading;
    if (!goes_on)
        job.status.error = fmt::format(
            "{} are pinned and find no space in another tier: unpin them, or give another tier more",
            format_bytes(job.stuck_bytes));
    job.next = 0;
    job.leaving_bytes = job.stuck_bytes = 0;
    return goes_on;
}

uint64_t Drainer::pinned_bytes(uint8_t tier) {
    uint64_t bytes = 0;
    for (ExtentId id = 0; id < extents_.size(); id++)
        if (extents_[id].tier == tier && extents_.has_flag(id, TIERD_EXTENT_PINNED))
            bytes += extents_[id].bytes;
    return bytes;
}

}  // namespace tierd
