// core_evictions.cc - the engine's thread, from memory that is needed to memory that is free.
#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdlib>

#include "lib/base/clock.h"
#include "lib/engine/core.h"

namespace tierd {

// True when `bytes` are free or on their way to be. The policy names the victims; when it does not name
// enough for a demand miss, the oldest go.
bool Core::make_room(uint64_t bytes, bool for_demand, ExtentId wanted) {
    uint64_t coming = tiers_.free_bytes() + evicting_bytes_;
    if (coming >= bytes) return true;
    uint64_t missing = bytes - coming;
    decisions_.clear();
    PolicyView now = view();
    now.wanted = wanted;
    policy_->reclaim(now, missing, for_demand, decisions_);
    uint64_t freed = 0;
    for (ExtentId id : decisions_.evict) {
        if (freed >= missing) break;
        if (start_eviction(id))
            freed += file_of(id).memory_of(id);
        else
            counters_.decisions_refused++;
    }
    if (freed < missing && for_demand) freed += evict_by_age(missing - freed);
    return freed >= missing;
}

// Keeps a little memory free while misses come, so that the next one need not wait for an eviction.
void Core::keep_watermark() {
    uint64_t low = std::min(4 * config_.extent_bytes, tiers_.usable_bytes() / 16);
    if (!everything_fits() && tiers_.free_bytes() + evicting_bytes_ < low) make_room(low, false);
}

// Of one tier, or of all.
uint64_t Core::evict_by_age(uint64_t bytes, uint8_t tier) {
    std::vector<std::pair<uint64_t, ExtentId>> candidates;
    for (ExtentId id = 0; id < table_.size(); id++) {
        const tierd_extent& row = table_[id];
        bool here = tier == kNoTier || row.tier == tier;
        if (here && row.state == TIERD_EXTENT_RESIDENT && (row.flags & TIERD_EXTENT_PINNED) == 0 &&
            !moves_.contains(id))
            candidates.emplace_back(std::max(row.last_touch_ns, row.filled_ns), id);
    }
    std::sort(candidates.begin(), candidates.end());
    uint64_t freed = 0;
    for (auto& [age, id] : candidates) {
        if (freed >= bytes) break;
        if (start_eviction(id)) freed += file_of(id).memory_of(id);
    }
    return freed;
}

// Gives the oldest huge page back, when the pool can't give another one. False: there is none.
bool Core::free_huge_page() {
    ExtentId oldest = kNoExtent;
    for (ExtentId id = 0; id < table_.size(); id++) {
        const WeightFile* file = owner_of(id);
        const tierd_extent& row = table_[id];
        if (file == nullptr || file->arena.backing() != Backing::hugetlb ||
            row.state != TIERD_EXTENT_RESIDENT || (row.flags & TIERD_EXTENT_PINNED) != 0)
            continue;
        if (oldest == kNoExtent || row.last_touch_ns < table_[oldest].last_touch_ns) oldest = id;
    }
    return oldest != kNoExtent && start_eviction(oldest);
}

// False when the extent may not go: not resident, pinned, or no extent at all. One that is on its way to another tier
// goes at the end of that.
bool Core::start_eviction(ExtentId id, bool not_whole) {
    WeightFile* file = owner_of(id);
    if (file == nullptr) return false;
    tierd_extent& row = table_[id];
    bool held = (row.flags & TIERD_EXTENT_PINNED) != 0 && !file->changed && !not_whole;
    if (row.state != TIERD_EXTENT_RESIDENT || held) return false;
    if (auto move = moves_.find(id); move != moves_.end()) {
        move->second.then_evict = true;
        move->second.not_whole |= not_whole;
        migrator().cancel(id);
        return false;
    }
    if ((row.flags & TIERD_EXTENT_UNTOUCHED) != 0) counters_.fills_wasted++;
    release_memory(id, true);
    return true;
}

// Returns an extent's memory, off this thread: unmapping it from every client can take as long as a fault.
void Core::release_memory(ExtentId id, bool was_published) {
    WeightFile& file = file_of(id);
    set_state(id, TIERD_EXTENT_EVICTING);
    if (was_published) heat_.expose(id, monotonic_ns(), false);
    if (is_huge(id)) huge_[id] = false;
    evicting_bytes_ += file.memory_of(id);
    evictor_->post([mailbox = mailbox_, id, was_published, shared = slots_[file.slot],
                    offset = file.offset_of(id), length = file.memory_of(id)] {
        auto released = shared->arena.release(offset, length);
        if (!released) {
            // Memory that can't be returned may hold half-read bytes. Dying sends everybody to the
            // kernel's mapping.
            spdlog::critical("{} of {}", released.error().text(), shared->path);
            std::abort();
        }
        mailbox->post([id, was_published](Core& core) { core.on_released(id, was_published); });
    });
}

void Core::on_released(ExtentId id, bool was_published) {
    WeightFile& file = file_of(id);
    evicting_bytes_ -= file.memory_of(id);
    tiers_.give_back(table_[id].tier, file.memory_of(id));
    if (auto other = scattered_.extract(id)) tiers_.give_back(other.mapped(), file.memory_of(id));
    if (was_published) {
        counters_.evictions++;
        counters_.bytes_evicted += file.bytes_in(id);
    }
    set_state(id, TIERD_EXTENT_ABSENT);
    tierd_extent& row = table_[id];
    row.tier = TIERD_NO_TIER;
    row.flags &= static_cast<uint8_t>(~(TIERD_EXTENT_UNTOUCHED | TIERD_EXTENT_MAPPED));
    if (was_published) {
        policy_->evicted(view(), id);
        if (observer_) observer_->evicted(view(), id);
    }
    if (file.changed) {
        abandon_fill(id, FallBackReason::changed);
    } else if (waiters_.contains(id)) {
        set_state(id, TIERD_EXTENT_QUEUED);
        demand_.push_back(id);
    }
    drop_file_if_idle(slots_[file.slot]);
}

}  // namespace tierd
