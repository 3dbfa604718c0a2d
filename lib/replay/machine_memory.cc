// machine_memory.cc - the modelled machine's memory: who is granted it, what is read into it, who must give it back.
#include <algorithm>

#include "lib/replay/machine.h"

namespace tierd {

static constexpr uint32_t kReserveExtents = 4;  // kept free while misses come, as in tierd

bool Machine::refuse(Refusal refusal) {
    result_.refused[static_cast<size_t>(refusal)]++;
    return false;
}

bool Machine::known(ExtentId id) {
    return (id < script_.extents && tables_.extents[id].bytes > 0) || refuse(Refusal::no_such_extent);
}

// Demand first; then what the policy wished for, as far as the disk has a place for it.
void Machine::pump() {
    bool demanded = !demand_.empty();
    pump_demand();
    if (demanded && demand_.empty()) keep_reserve();
    if (demand_.empty()) pump_read_ahead();
    pump_moves();
}

void Machine::pump_demand() {
    while (!demand_.empty()) {
        if (start_fill(demand_.front(), true)) {
            demand_.pop_front();
            continue;
        }
        uint64_t wanted_bytes = 0;
        for (ExtentId id : demand_) wanted_bytes += tables_.extents[id].bytes;
        bool came = make_room(wanted_bytes, true, kNoExtent);
        if (!came || !ideal_)
            return;  // memory is on its way: from evictions, or once what is being read may go
    }
}

void Machine::pump_read_ahead() {
    while (!ahead_.empty() && reading_ < setting_.disk.depth) {
        ExtentId id = ahead_.front();
        bool wanted = tables_.extents[id].state == TIERD_EXTENT_ABSENT;
        if (wanted && !start_fill(id, false)) {
            if (make_room(tables_.extents[id].bytes, false, id)) return;
            ahead_.clear();  // as tierd does: what follows is worth no more
            refuse(Refusal::no_room);
            return;
        }
        ahead_.pop_front();
    }
}

void Machine::pump_moves() {
    while (!moves_.empty() && start_move(moves_.front())) moves_.pop_front();
}

uint64_t Machine::free_bytes(uint8_t tier) const {
    const tierd_tier_info& info = tables_.tiers[tier];
    return info.capacity_bytes - std::min<uint64_t>(info.used_bytes, info.capacity_bytes);
}

// The fastest tier that has so much free; TIERD_NO_TIER when none has.
uint8_t Machine::tier_with_room(uint32_t bytes) const {
    uint8_t best = TIERD_NO_TIER;
    for (uint8_t tier = 1; tier <= setting_.tiers.size(); tier++) {
        bool fits = free_bytes(tier) >= bytes && tables_.tiers[tier].draining == 0;
        if (fits && (best == TIERD_NO_TIER || tables_.tiers[tier].rank < tables_.tiers[best].rank))
            best = tier;
    }
    return best;
}

bool Machine::start_fill(ExtentId id, bool demand) {
    tierd_extent& row = tables_.extents[id];
    uint8_t tier = tier_with_room(row.bytes);
    if (tier == TIERD_NO_TIER) return false;
    tables_.tiers[tier].used_bytes += row.bytes;
    tables_.models[row.model].resident_bytes += row.bytes;
    row.tier = tier;
    row.state = TIERD_EXTENT_FILLING;
    reading_++;
    counts_of(id).reads++;
    result_.bytes_read += row.bytes;
    if (!demand) result_.reads_ahead++;
    disk_free_ns_ =
        std::max(disk_free_ns_, now_ns_) + transfer_ns(row.bytes, setting_.disk.bandwidth_bytes_per_s);
    plan(disk_free_ns_ + setting_.disk.latency_ns, Kind::filled, id);
    return true;
}

void Machine::on_filled(ExtentId id) {
    tierd_extent& row = tables_.extents[id];
    reading_--;
    row.state = TIERD_EXTENT_RESIDENT;
    row.filled_ns = now_ns_;
    auto waiters = waiters_.extract(id);
    row.flags = waiters.empty() ? TIERD_EXTENT_UNTOUCHED : TIERD_EXTENT_MAPPED;
    policy_.filled(view(), id);
    if (waiters.empty()) return;
    for (uint32_t reader : waiters.mapped()) serve(reader, readers_[reader].asked_ns);
}

// True when so much is free in one tier or on its way to be. The policy names the victims; where it does not name enough for
// a miss, the oldest go.
bool Machine::make_room(uint64_t bytes, bool for_demand, ExtentId wanted) {
    uint64_t coming = 0;
    for (uint8_t tier = 1; tier <= setting_.tiers.size(); tier++)
        coming = std::max(coming, free_bytes(tier) + evicting_bytes_[tier]);
    if (coming >= bytes) return true;
    decisions_.clear();
    policy_.reclaim(view(wanted), bytes - coming, for_demand, decisions_);
    for (ExtentId id : decisions_.evict) {
        if (coming >= bytes) break;
        if (!known(id)) continue;
        if (start_eviction(id))
            coming += tables_.extents[id].bytes;
        else
            refuse(Refusal::wrong_state);
    }
    if (coming < bytes && for_demand) coming += evict_by_age(bytes - coming);
    return coming >= bytes;
}

uint64_t Machine::evict_by_age(uint64_t bytes) {
    std::vector<std::pair<uint64_t, ExtentId>> candidates;
    for (ExtentId id = 0; id < script_.extents; id++) {
        const tierd_extent& row = tables_.extents[id];
        if (row.state == TIERD_EXTENT_RESIDENT)
            candidates.emplace_back(std::max(row.last_touch_ns, row.filled_ns), id);
    }
    std::ranges::sort(candidates);
    uint64_t freed = 0;
    for (auto& [age, id] : candidates) {
        if (freed >= bytes) break;
        if (start_eviction(id)) freed += tables_.extents[id].bytes;
    }
    return freed;
}

// A little memory stays free while misses come, so that the next need not wait for an eviction.
void Machine::keep_reserve() {
    if (ideal_ || script_.bytes <= result_.capacity_bytes) return;
    make_room(std::min(uint64_t{kReserveExtents} * longest_bytes_, result_.capacity_bytes / 16), false,
              kNoExtent);
}

bool Machine::start_eviction(ExtentId id) {
    tierd_extent& row = tables_.extents[id];
    if (row.state != TIERD_EXTENT_RESIDENT || (row.flags & TIERD_EXTENT_PINNED) != 0 || moving_.contains(id))
        return false;
    if ((row.flags & TIERD_EXTENT_UNTOUCHED) != 0) result_.wasted++;
    row.state = TIERD_EXTENT_EVICTING;
    result_.evictions++;
    evicting_bytes_[row.tier] += row.bytes;
    if (ideal_)
        on_evicted(id);
    else
        plan(now_ns_ + setting_.evict_ns, Kind::evicted, id);
    return true;
}

void Machine::on_evicted(ExtentId id) {
    tierd_extent& row = tables_.extents[id];
    evicting_bytes_[row.tier] -= row.bytes;
    tables_.tiers[row.tier].used_bytes -= row.bytes;
    tables_.models[row.model].resident_bytes -= row.bytes;
    row.tier = TIERD_NO_TIER;
    row.state = TIERD_EXTENT_ABSENT;
    policy_.evicted(view(), id);
    row.flags = 0;
    if (!waiters_.contains(id)) return;
    row.state = TIERD_EXTENT_QUEUED;
    demand_.push_back(id);
}

// Memory at the destination first; the source is given back when the bytes have arrived. False: later.
bool Machine::start_move(const ProposedMove& move) {
    tierd_extent& row = tables_.extents[move.extent];
    if (row.state != TIERD_EXTENT_RESIDENT || row.tier == move.tier || moving_.contains(move.extent)) {
        refuse(Refusal::wrong_state);
        return true;
    }
    if (free_bytes(move.tier) < row.bytes) {
        bool leaving = evicting_bytes_[move.tier] > 0 || std::ranges::any_of(moving_, [&](auto& other) {
                           return other.second.from == move.tier;
                       });
        if (!leaving) refuse(Refusal::no_room);
        return !leaving;
    }
    tables_.tiers[move.tier].used_bytes += row.bytes;
    moving_[move.extent] = {row.tier, move.tier};
    uint64_t slower = std::min(tables_.tiers[row.tier].bandwidth_bytes_per_s,
                               tables_.tiers[move.tier].bandwidth_bytes_per_s);
    plan(now_ns_ + transfer_ns(row.bytes, slower), Kind::moved, move.extent);
    return true;
}

void Machine::on_moved(ExtentId id) {
    tierd_extent& row = tables_.extents[id];
    Move move = moving_.extract(id).mapped();
    tables_.tiers[move.from].used_bytes -= row.bytes;
    row.tier = move.to;
    result_.moves++;
    result_.bytes_moved += row.bytes;
}

}  // namespace tierd
