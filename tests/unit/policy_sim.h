// policy_sim.h - a small deterministic engine for policy tests: a budget, one disk, and touches seen as the
// real one sees them: demand misses, and the first touch of what is resident but not mapped.
//
// Owns:      an extent table, the sessions' mappings, the disk's queue and a clock that only touches move.
// Invariant: the budget holds; a policy's answer is validated before it is carried out, and each bad one is
//            counted.
// Callers:   one test, one thread.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <set>
#include <vector>

#include "lib/policy/policy.h"

namespace tierd::sim {

inline constexpr uint64_t kTickNs = 100'000;  // one touch's computing
inline constexpr uint64_t kEpochTicks = 1000;
inline constexpr uint64_t kEvictTicks = 1;  // from a victim's naming to free memory
inline constexpr size_t kIoDepth = 16;
inline constexpr uint32_t kExtentBytes = 2u << 20;

struct Counters {
    uint64_t touches = 0;
    uint64_t fills = 0;
    uint64_t demand_misses = 0;  // touches that waited for the disk
    uint64_t wait_ticks = 0;
    uint64_t bad_victims = 0;    // named, but pinned or not resident
    uint64_t fresh_victims = 0;  // named, although one of the last two touched
    uint64_t watched = 0;        // asked for
    uint64_t guesses = 0;        // asked for
    uint64_t wasted = 0;         // read ahead and evicted untouched
    uint64_t most_asked = 0;     // the longest list of read-ahead
    uint64_t stuck = 0;          // times that demand had no memory and none was coming
    uint64_t over_budget = 0;
};

class Machine {
  public:
    Machine(Policy& policy, size_t rows, uint32_t capacity_extents, uint32_t read_ticks)
        : policy_(policy), rows_(rows), mapped_(rows), read_ticks_(read_ticks) {
        set_capacity(capacity_extents);
    }

    void set_capacity(uint32_t extents) {
        capacity_bytes_ = uint64_t{extents} * kExtentBytes;
        if (used_bytes_ <= capacity_bytes_) return;
        make_room(used_bytes_ - capacity_bytes_, true);
        while (!evicting_.empty()) advance(1);
    }

    // Opens a model of `count` extents. `label` fills role, layer and expert of an index.
    void open(uint32_t slot, ExtentId first, uint32_t count, std::vector<uint32_t> order = {},
              bool learned = false, const std::function<void(uint32_t, tierd_extent&)>& label = {}) {
        for (uint32_t index = 0; index < count; ++index) {
            tierd_extent& row = rows_[first + index] = tierd_extent{};
            row.model = static_cast<uint16_t>(slot);
            row.bytes = kExtentBytes;
            row.layer = TIERD_NO_LAYER;
            row.expert = TIERD_NO_EXPERT;
            if (label) label(index, row);
        }
        if (order.empty())
            for (uint32_t index = 0; index < count; ++index) order.push_back(index);
        orders_[slot] = {first, count, std::move(order)};
        const Opened& kept = orders_[slot];
        policy_.model_open(
            view(), {slot, first, count, kExtentBytes, uint64_t{count} * kExtentBytes, kept.order, learned});
    }

    // Evicts what the model holds and closes it, as the engine does.
    void close(uint32_t slot) {
        Opened opened = orders_.at(slot);
        auto ours = [&](ExtentId e) { return e >= opened.first && e < opened.first + opened.count; };
        std::erase_if(wishes_, ours);
        while (!disk_.empty()) advance(1);
        for (ExtentId extent = opened.first; extent < opened.first + opened.count; ++extent)
            if (is_resident(extent)) start_eviction(extent);
        while (!evicting_.empty()) advance(1);
        policy_.model_close(view(), slot);
        orders_.erase(slot);
    }

    void pin(ExtentId extent, bool on) {
        rows_[extent].flags = static_cast<uint8_t>(on ? rows_[extent].flags | TIERD_EXTENT_PINNED
                                                      : rows_[extent].flags & ~TIERD_EXTENT_PINNED);
    }

    void touch(ExtentId extent, uint32_t session = 0) {
        advance(1);
        ++counters.touches;
        tierd_extent& row = rows_[extent];
        bool resident = row.state == TIERD_EXTENT_RESIDENT;
        if (resident && (mapped_[extent] >> session & 1)) return;
        if (!resident) demand(extent);
        PolicyDecisions decisions;
        policy_.fault(view(), extent, resident ? Touch::minor : Touch::missing, decisions);
        last_touched_[0] = std::exchange(last_touched_[1], extent);
        row.last_touch_ns = now_ns();
        ++row.touches;
        row.flags &= static_cast<uint8_t>(~TIERD_EXTENT_UNTOUCHED);
        carry_out(decisions);
        while (row.state != TIERD_EXTENT_RESIDENT && counters.stuck == 0) {
            ++counters.wait_ticks;
            advance(1);
        }
        for (uint32_t next = 0; next <= map_ahead; ++next)
            if (extent + next < rows_.size() && is_resident(extent + next)) map(extent + next, session);
    }

    // Time passes without touches.
    void idle(uint64_t ticks) { advance(ticks); }

    uint32_t map_ahead =
        0;  // resident extents behind a touched one that are mapped with it, unseen by the policy

    uint64_t used_extents() const { return used_bytes_ / kExtentBytes; }
    bool is_resident(ExtentId extent) const { return rows_[extent].state == TIERD_EXTENT_RESIDENT; }
    uint64_t resident_in(ExtentId first, uint32_t count) const {
        return static_cast<uint64_t>(
            std::count_if(rows_.begin() + first, rows_.begin() + first + count,
                          [](auto& row) { return row.state == TIERD_EXTENT_RESIDENT; }));
    }
    PolicyView view() { return {rows_, {capacity_bytes_, used_bytes_}, now_ns()}; }

    Counters counters;

  private:
    struct Opened {
        ExtentId first = 0;
        uint32_t count = 0;
        std::vector<uint32_t> order;
    };

    uint64_t now_ns() const { return (ticks_ + 1) * kTickNs; }

    uint64_t coming_bytes() const {
        uint64_t held_bytes = used_bytes_ - evicting_.size() * kExtentBytes;
        return capacity_bytes_ > held_bytes ? capacity_bytes_ - held_bytes : 0;
    }

    void demand(ExtentId extent) {
        ++counters.demand_misses;
        demanded_.insert(extent);
        if (rows_[extent].state == TIERD_EXTENT_ABSENT) queue_demand(extent);
        auto reading = std::find(disk_.begin(), disk_.end(), extent);
        if (reading == disk_.end()) return;
        disk_.erase(reading);
        disk_.push_front(extent);
    }

    void queue_demand(ExtentId extent) {
        rows_[extent].state = TIERD_EXTENT_QUEUED;
        queued_.push_back(extent);
    }

    void carry_out(const PolicyDecisions& decisions) {
        counters.most_asked = std::max<uint64_t>(counters.most_asked, decisions.read_ahead.size());
        counters.watched += decisions.watch.size();
        for (ExtentId extent : decisions.watch)
            if (extent < rows_.size()) mapped_[extent] = 0;
        for (ExtentId extent : decisions.read_ahead) {
            if (extent >= rows_.size() || rows_[extent].state != TIERD_EXTENT_ABSENT) continue;
            if (wishes_.size() >= 256) wishes_.pop_front();
            wishes_.push_back(extent);
        }
        for (ExtentId extent : decisions.guesses)
            if (extent < rows_.size() && rows_[extent].state == TIERD_EXTENT_ABSENT) guess(extent);
        pump();
    }

    void guess(ExtentId extent) {
        ++counters.guesses;
        if (wishes_.size() < 256) wishes_.push_back(extent);
    }

    // Demand first; then wishes, in order, which are all forgotten when the policy has nothing to give for
    // them.
    void pump() {
        while (!queued_.empty()) {
            if (used_bytes_ + kExtentBytes > capacity_bytes_) {
                make_room(queued_.size() * kExtentBytes, true);
                if (evicting_.empty() && disk_.empty()) ++counters.stuck;
                return;
            }
            start(queued_.front(), true);
            queued_.pop_front();
        }
        while (!wishes_.empty() && disk_.size() < kIoDepth) {
            ExtentId extent = wishes_.front();
            bool wanted = rows_[extent].state == TIERD_EXTENT_ABSENT;
            if (wanted && used_bytes_ + kExtentBytes > capacity_bytes_) {
                if (!make_room(kExtentBytes, false)) wishes_.clear();
                return;
            }
            if (wanted) start(extent, false);
            wishes_.pop_front();
        }
    }

    void start(ExtentId extent, bool first) {
        rows_[extent].state = TIERD_EXTENT_FILLING;
        used_bytes_ += kExtentBytes;
        counters.over_budget += used_bytes_ > capacity_bytes_;
        first ? disk_.push_front(extent) : disk_.push_back(extent);
    }

    bool make_room(uint64_t bytes, bool for_demand) {
        if (coming_bytes() >= bytes && used_bytes_ <= capacity_bytes_) return true;
        uint64_t missing = bytes - std::min(bytes, coming_bytes());
        if (missing == 0) return true;
        PolicyDecisions decisions;
        policy_.reclaim(view(), missing, for_demand, decisions);
        uint64_t freed = 0;
        for (ExtentId victim : decisions.evict) {
            if (freed >= missing) break;
            bool usable =
                victim < rows_.size() && is_resident(victim) && !(rows_[victim].flags & TIERD_EXTENT_PINNED);
            if (!usable) ++counters.bad_victims;
            if (!usable) continue;
            counters.fresh_victims += victim == last_touched_[0] || victim == last_touched_[1];
            counters.wasted += (rows_[victim].flags & TIERD_EXTENT_UNTOUCHED) != 0;
            start_eviction(victim);
            freed += kExtentBytes;
        }
        return freed >= missing;
    }

    void start_eviction(ExtentId extent) {
        rows_[extent].state = TIERD_EXTENT_EVICTING;
        mapped_[extent] = 0;
        evicting_.push_back({ticks_ + kEvictTicks, extent});
    }

    void finish_eviction(ExtentId extent) {
        rows_[extent].state = TIERD_EXTENT_ABSENT;
        rows_[extent].flags &= static_cast<uint8_t>(~(TIERD_EXTENT_UNTOUCHED | TIERD_EXTENT_MAPPED));
        used_bytes_ -= kExtentBytes;
        policy_.evicted(view(), extent);
        if (demanded_.contains(extent)) queue_demand(extent);
    }

    void map(ExtentId extent, uint32_t session) {
        rows_[extent].flags |= TIERD_EXTENT_MAPPED;
        mapped_[extent] |= 1u << session;
    }

    void advance(uint64_t ticks) {
        for (; ticks > 0; --ticks) {
            ++ticks_;
            if (!disk_.empty() && ++read_progress_ >= read_ticks_) finish_read();
            while (!evicting_.empty() && evicting_.front().first <= ticks_) {
                ExtentId gone = evicting_.front().second;
                evicting_.pop_front();
                finish_eviction(gone);
            }
            pump();
            if (ticks_ % kEpochTicks == 0) {
                PolicyDecisions decisions;
                policy_.epoch(view(), decisions);
                carry_out(decisions);
            }
        }
    }

    void finish_read() {
        read_progress_ = 0;
        ExtentId extent = disk_.front();
        disk_.pop_front();
        tierd_extent& row = rows_[extent];
        row.state = TIERD_EXTENT_RESIDENT;
        row.filled_ns = now_ns();
        ++counters.fills;
        if (demanded_.erase(extent) == 0) row.flags |= TIERD_EXTENT_UNTOUCHED;
        policy_.filled(view(), extent);
    }

    Policy& policy_;
    std::vector<tierd_extent> rows_;
    std::vector<uint32_t> mapped_;  // a bit for each session
    std::map<uint32_t, Opened> orders_;
    std::deque<ExtentId> disk_;                           // being read, the first next
    std::deque<ExtentId> queued_;                         // demanded, without memory
    std::deque<ExtentId> wishes_;                         // read-ahead, without memory
    std::deque<std::pair<uint64_t, ExtentId>> evicting_;  // with the tick of their end
    std::set<ExtentId> demanded_;
    ExtentId last_touched_[2] = {kNoExtent, kNoExtent};
    uint64_t capacity_bytes_ = 0;
    uint64_t used_bytes_ = 0;
    uint64_t ticks_ = 0;
    uint32_t read_ticks_;
    uint32_t read_progress_ = 0;
};

// Reads that the clairvoyant optimum (Belady) needs for the touches from `from` on, having served those
// before.
inline uint64_t belady_reads(const std::vector<ExtentId>& touches, uint32_t capacity, size_t from) {
    std::map<ExtentId, size_t> later;
    std::vector<size_t> next(touches.size(), SIZE_MAX);
    for (size_t i = touches.size(); i-- > 0;) {
        auto [it, fresh] = later.emplace(touches[i], i);
        if (!fresh) next[i] = std::exchange(it->second, i);
    }
    std::set<std::pair<size_t, ExtentId>> resident;  // by next use
    std::map<ExtentId, size_t> next_of;
    uint64_t reads = 0;
    for (size_t i = 0; i < touches.size(); ++i) {
        auto found = next_of.find(touches[i]);
        if (found != next_of.end()) {
            resident.erase({found->second, touches[i]});
        } else {
            reads += i >= from;
            if (resident.size() == capacity) {
                next_of.erase(resident.rbegin()->second);
                resident.erase(std::prev(resident.end()));
            }
        }
        resident.insert({next[i], touches[i]});
        next_of[touches[i]] = next[i];
    }
    return reads;
}

}  // namespace tierd::sim
