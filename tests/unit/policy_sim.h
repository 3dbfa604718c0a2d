// policy_sim.h - the engine's own Placement on a modelled machine for policy tests: one disk, sessions, and a clock that only
// touches move.
//
// Owns:      the clock, the disk's queue and what each session has mapped. Everything else is Placement's.
// Invariant: a policy sees what it sees in the daemon: demand misses, and the first touch of what is resident but not mapped.
// Callers:   one test, one thread.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "lib/base/invariant.h"
#include "lib/placement/placement.h"

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
    uint64_t speculative = 0;    // asked for
    uint64_t wasted = 0;         // read ahead and evicted untouched
    uint64_t most_asked = 0;     // the longest list of read-ahead
    uint64_t stuck = 0;          // times that demand had no memory and none was coming
    uint64_t over_budget = 0;
};

// The policy under test, and counts of what it asks for.
class CountedPolicy final : public Policy {
  public:
    CountedPolicy(Policy& policy, Counters& counters) : policy_(policy), counters_(counters) {}

    std::string_view name() const override { return policy_.name(); }
    void model_open(const PolicyView& view, const PolicyModel& model) override {
        policy_.model_open(view, model);
    }
    void model_close(const PolicyView& view, uint32_t model) override { policy_.model_close(view, model); }
    void filled(const PolicyView& view, ExtentId extent) override { policy_.filled(view, extent); }
    void evicted(const PolicyView& view, ExtentId extent) override { policy_.evicted(view, extent); }
    void fault(const PolicyView& view, ExtentId extent, Touch touch, PolicyDecisions& out) override {
        policy_.fault(view, extent, touch, out);
        touched_[0] = std::exchange(touched_[1], extent);
        count(out);
    }
    void epoch(const PolicyView& view, PolicyDecisions& out) override {
        policy_.epoch(view, out);
        count(out);
    }
    void reclaim(const PolicyView& view, uint64_t needed_bytes, bool for_demand,
                 PolicyDecisions& out) override {
        policy_.reclaim(view, needed_bytes, for_demand, out);
        uint64_t freed = 0;
        for (ExtentId victim : out.evict) {
            if (freed >= needed_bytes) break;
            bool usable = victim < view.extents.size() &&
                          view.extents[victim].state == TIERD_EXTENT_RESIDENT &&
                          (view.extents[victim].flags & TIERD_EXTENT_PINNED) == 0;
            usable ? freed += view.extents[victim].bytes : ++counters_.bad_victims;
            counters_.fresh_victims += usable && (victim == touched_[0] || victim == touched_[1]);
        }
    }

  private:
    void count(const PolicyDecisions& out) {
        counters_.most_asked = std::max<uint64_t>(counters_.most_asked, out.read_ahead.size());
        counters_.watched += out.watch.size();
        counters_.speculative += out.speculative.size();
    }
    Policy& policy_;
    Counters& counters_;
    ExtentId touched_[2] = {kNoExtent, kNoExtent};
};

class Machine final : private Backend {
  public:
    Machine(Policy& policy, size_t rows, uint32_t capacity_extents, uint32_t read_ticks)
        : mapped_(rows),
          read_ticks_(read_ticks),
          placement_(config(capacity_extents), ExtentTable::make().value(),
                     std::make_unique<CountedPolicy>(policy, counters), *this, {}) {}

    void set_capacity(uint32_t extents) {
        placement_.set_budget(uint64_t{extents} * kExtentBytes);
        while (!evicting_.empty()) advance(1);
    }

    // Opens a model of `count` extents at the first free rows, which must be those from `first` on. `label` fills role, layer
    // and expert of an index.
    void open(uint32_t key, ExtentId first, uint32_t count, std::vector<uint32_t> order = {},
              bool learned = false, const std::function<void(uint32_t, tierd_extent&)>& label = {}) {
        auto file = std::make_unique<PlacedFile>();
        file->layout = ExtentLayout::even(uint64_t{count} * kExtentBytes, kExtentBytes);
        file->file_bytes = uint64_t{count} * kExtentBytes;
        file->extent_count = count;
        file->order = std::move(order);
        if (file->order.empty())
            for (uint32_t index = 0; index < count; ++index) file->order.push_back(index);
        file->order_learned = learned;
        std::vector<ExtentLabel> labels(count);
        for (uint32_t index = 0; label && index < count; ++index) {
            tierd_extent row{};
            row.layer = TIERD_NO_LAYER;
            row.expert = TIERD_NO_EXPERT;
            label(index, row);
            labels[index] = {row.layer, row.expert, row.role};
        }
        placement_.take_rows(*file).value();
        invariant(file->first_extent == first, "models are opened in the order of their rows");
        placement_.open(*file, labels);
        placement_.attach(*file, 0, 0);
        files_[key] = std::move(file);
    }

    // Evicts what the model holds and closes it, as the engine does.
    void close(uint32_t key) {
        PlacedFile& file = *files_.at(key);
        placement_.detach(file);
        while (!file.is_idle()) {
            placement_.evict(file);
            advance(1);
        }
        placement_.close(file);
        files_.erase(key);
    }
    // The policy's number for the model.
    uint32_t slot(uint32_t key) const { return files_.at(key)->slot; }

    void pin(ExtentId extent, bool on) { placement_.extents().set_flag(extent, TIERD_EXTENT_PINNED, on); }

    void touch(ExtentId extent, uint32_t session = 0) {
        advance(1);
        ++counters.touches;
        bool resident = is_resident(extent);
        if (resident && (mapped_[extent] >> session & 1)) return;
        if (!resident) demand(extent);
        placement_.accessed(extent, resident ? Touch::minor : Touch::missing);
        pump();
        while (!is_resident(extent) && counters.stuck == 0) {
            ++counters.wait_ticks;
            advance(1);
        }
        const ExtentId end = std::max(placement_.mapped_with(extent), extent + 1 + map_ahead);
        for (ExtentId next = extent; next < std::min<ExtentId>(end, placement_.extents().size()); ++next)
            if (is_resident(next)) map(next, session);
    }

    // Time passes without touches.
    void idle(uint64_t ticks) { advance(ticks); }

    // Resident extents behind a touched one that are mapped with it, beside those that the engine maps anyway.
    uint32_t map_ahead = 0;

    uint64_t used_extents() const { return placement_.tiers().used_bytes() / kExtentBytes; }
    bool is_resident(ExtentId extent) { return placement_.extents().is(extent, TIERD_EXTENT_RESIDENT); }
    uint64_t resident_in(ExtentId first, uint32_t count) {
        uint64_t resident = 0;
        for (ExtentId extent = first; extent < first + count; ++extent) resident += is_resident(extent);
        return resident;
    }
    PolicyView view() { return placement_.policy().view(); }

    Counters counters;

  private:
    static PlacementConfig config(uint32_t capacity_extents) {
        return {.extent_bytes = kExtentBytes,
                .io_depth = kIoDepth,
                .tiers = {{.name = "dram0", .capacity_bytes = uint64_t{capacity_extents} * kExtentBytes}}};
    }

    // --- Backend
    uint64_t now_ns() override { return (ticks_ + 1) * kTickNs; }
    ReadStart read(PlacedFile&, ExtentId id, int) override {
        counters.over_budget += placement_.tiers().used_bytes() > placement_.tiers().capacity_bytes();
        placement_.filler().is_awaited(id) ? disk_.push_front(id) : disk_.push_back(id);
        return ReadStart::begun;
    }
    void submit_reads() override {}
    void release(PlacedFile&, ExtentId id, bool) override {
        mapped_[id] = 0;
        evicting_.push_back({ticks_ + kEvictTicks, id});
    }
    void move(PlacedFile&, MoveOrder) override {}
    void cancel_move(ExtentId) override {}
    bool rearm(PlacedFile&, ExtentId id, int) override {
        mapped_[id] = 0;
        return true;
    }

    void demand(ExtentId extent) {
        ++counters.demand_misses;
        placement_.demand(extent);
        auto reading = std::find(disk_.begin(), disk_.end(), extent);
        if (reading == disk_.end()) return;
        disk_.erase(reading);
        disk_.push_front(extent);
    }

    void map(ExtentId extent, uint32_t session) {
        placement_.extents().set_flag(extent, TIERD_EXTENT_MAPPED, true);
        mapped_[extent] |= 1u << session;
    }

    void pump() {
        bool more = true;
        while (more) {
            bool done = placement_.pump();
            more = !done || placement_.filler().has_more();
            handle_events();
        }
        counters.wasted = placement_.counters().fills_wasted;
    }

    void handle_events() {
        for (const PlacementEvent& event : placement_.take_events()) {
            counters.fills += event.kind == PlacementEvent::Kind::filled;
            counters.stuck += event.kind == PlacementEvent::Kind::failed;
        }
    }

    void advance(uint64_t ticks) {
        for (; ticks > 0; --ticks) {
            ++ticks_;
            if (!disk_.empty() && ++read_progress_ >= read_ticks_) finish_read();
            while (!evicting_.empty() && evicting_.front().first <= ticks_) {
                ExtentId gone = evicting_.front().second;
                evicting_.pop_front();
                placement_.on_released(gone, true);
            }
            handle_events();
            pump();
            if (ticks_ % kEpochTicks == 0) placement_.epoch();
        }
    }

    void finish_read() {
        read_progress_ = 0;
        ExtentId extent = disk_.front();
        disk_.pop_front();
        placement_.on_read(extent, now_ns());
    }

    std::vector<uint32_t> mapped_;  // a bit for each session
    std::map<uint32_t, std::unique_ptr<PlacedFile>> files_;
    std::deque<ExtentId> disk_;                           // being read, the first next
    std::deque<std::pair<uint64_t, ExtentId>> evicting_;  // with the tick of their end
    uint64_t ticks_ = 0;
    uint32_t read_ticks_;
    uint32_t read_progress_ = 0;
    Placement placement_;
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
