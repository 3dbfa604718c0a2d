#include "lib/placement/filler.h"

#include "lib/base/invariant.h"

#include <fmt/format.h>

#include <algorithm>

namespace tierd {

namespace {

constexpr uint32_t kMaxReads = 200;  // below the ring's entries, with room for parts and identity checks
// Reads of files whose file system may hang (network, FUSE), of one and of all together. They take bounce buffers (there are
// 16), memory and kernel threads, and may never give them back: the rest is for the others.
constexpr uint32_t kMaxSlowReadsOfFile = 6;
constexpr uint32_t kMaxSlowReads = 12;

}  // namespace

Filler::Filler(FillLimits limits, Extents& extents, TierTable& tiers, FillQueue& queue, Jobs& jobs,
               Evictor& evictor, Mover& mover, Backend& backend, EngineCounters& counters,
               PlacementEvents& events)
    : limits_(limits),
      extents_(extents),
      tiers_(tiers),
      queue_(queue),
      jobs_(jobs),
      evictor_(evictor),
      mover_(mover),
      backend_(backend),
      counters_(counters),
      events_(events) {}

void Filler::demand(ExtentId id) {
    awaited_.insert(id);
    queue_.demand(id);
}

bool Filler::has_preload() const {
    return std::any_of(fills_.begin(), fills_.end(),
                       [](auto& fill) { return fill.second.reason == FillReason::preload; });
}

bool Filler::pump(bool everything_fits) {
    if (!pump_demand(everything_fits)) return false;
    has_more_ = !queue_.has_demand() && read_one_ahead();
    backend_.submit_reads();
    return true;
}

bool Filler::pump_demand(bool everything_fits) {
    auto& demands = queue_.demands();
    while (!demands.empty() && local_reads() < kMaxReads) {
        ExtentId id = demands.front();
        bool hopeless = false;
        if (extents_.is(id, TIERD_EXTENT_QUEUED)) {
            Started begun = start(id, FillReason::demand);
            if (begun == Started::throttled) {
                queue_.throttle_first();
                continue;
            }
            bool coming = begun == Started::no_buffer;
            if (begun == Started::no_memory) coming = evictor_.make_room(queue_.demand_bytes(), true);
            if (begun == Started::no_huge_page) coming = evictor_.free_huge_page();
            bool moving = evictor_.evicting_bytes() > 0 || reads_ > 0 || !mover_.is_idle();
            if (begun != Started::yes && (coming || moving)) break;
            hopeless = begun != Started::yes;  // nothing can ever be freed for it
        }
        demands.pop_front();
        served_demand_ = true;
        if (!hopeless) continue;
        give_up(id, FailReason::no_memory);
        return false;
    }
    if (std::exchange(served_demand_, false) && demands.empty() && !everything_fits &&
        limits_.keeps_watermark)
        evictor_.keep_watermark();
    return true;
}

// Starts one of the reads that nobody waits for; the memory of a few takes longer to make than a touch should wait.
// False: there is none to start now.
bool Filler::read_one_ahead() {
    const uint32_t before = reads_;
    auto none_yet = [&] { return reads_ == before && local_reads() < limits_.io_depth; };
    auto& prefetches = queue_.prefetches();
    while (none_yet() && !prefetches.empty() && pump_one(prefetches, FillReason::prefetch)) {
    }
    auto& speculations = queue_.speculations();
    while (none_yet() && !speculations.empty() && prefetches.empty() &&
           pump_one(speculations, FillReason::speculative)) {
    }
    for (auto& [number, job] : jobs_.all())
        while (none_yet() && !job.queue.empty() && pump_preload(job)) {
        }
    auto& advice = queue_.advice();
    while (none_yet() && !advice.empty() && prefetches.empty() &&
           tiers_.free_bytes() >= limits_.extent_bytes && pump_one(advice, FillReason::preload)) {
    }
    return reads_ > before;
}

// Of the requests that could be under way at once: memory for several, so that evictions run beside the reads and not between
// them.
uint64_t Filler::requested_bytes(const std::deque<ExtentId>& queue) {
    uint64_t bytes = 0;
    for (size_t i = 0; i < std::min<size_t>(queue.size(), limits_.io_depth); i++)
        if (extents_.find(queue[i]) != nullptr) bytes += extents_[queue[i]].bytes;
    return bytes;
}

// Takes the queue's first request. False: there is no memory for it now; the queue waits if some is coming, else it is
// dropped. A request for a file that has enough reads under way is dropped, unless the queue is `patient`.
bool Filler::pump_one(std::deque<ExtentId>& queue, FillReason reason, bool patient) {
    ExtentId id = queue.front();
    PlacedFile* file = extents_.find(id);
    if (file != nullptr && !file->changed && extents_.is(id, TIERD_EXTENT_ABSENT)) {
        Started begun = start(id, reason);
        bool coming = begun == Started::no_buffer || (begun == Started::throttled && patient);
        if (begun == Started::throttled && !patient) {
            queue.pop_front();
            return true;
        }
        if (begun == Started::no_memory)
            coming = evictor_.make_room(requested_bytes(queue), false, id) || evictor_.evicting_bytes() > 0;
        if (begun != Started::yes && !coming) queue.clear();
        if (begun != Started::yes) return false;
    }
    queue.pop_front();
    return true;
}

// False: memory is on its way, or other reads of the file are, or there is none to be had.
bool Filler::pump_preload(Job& job) {
    size_t before = job.queue.size();
    if (pump_one(job.queue, FillReason::preload, true)) return true;
    if (job.queue.empty())
        job.status.error = fmt::format(
            "the budget is full: {} extents were not read; evict something or raise the budget", before);
    return false;
}

// False if reads from slow file systems have used up their share of buffers and memory. One read may always be tried:
// whoever is held up goes on when another of these reads has ended, so there must be one.
bool Filler::may_read(const PlacedFile& file) const {
    if (!file.slow_origin) return true;
    uint64_t extents = tiers_.usable_bytes() / 2 / limits_.extent_bytes;
    return file.slow_reads < kMaxSlowReadsOfFile &&
           slow_reads_ < std::clamp<uint64_t>(extents, 1, kMaxSlowReads);
}

// Grants memory and begins the read.
Filler::Started Filler::start(ExtentId id, FillReason reason) {
    PlacedFile& file = extents_.file_of(id);
    tierd_extent& row = extents_[id];
    if (!may_read(file)) return Started::throttled;
    const uint64_t started_ns = backend_.now_ns();
    uint8_t tier = tiers_.grant(row.bytes, extents_.heat().reader_node(id));
    if (tier == kNoTier) return Started::no_memory;
    ReadStart begun = backend_.read(file, id, tiers_.preferred_node(tier));
    if (begun == ReadStart::no_buffer || begun == ReadStart::no_huge_page) {
        tiers_.give_back(tier, row.bytes);
        return begun == ReadStart::no_buffer ? Started::no_buffer : Started::no_huge_page;
    }
    extents_.set_state(id, TIERD_EXTENT_FILLING);
    last_read_ns_ = started_ns;
    row.tier = tier;
    fills_[id] = {reason, started_ns};
    reads_++;
    invariant(reads_ == fills_.size(), "each fill is one read");
    if (file.slow_origin) {
        file.slow_reads++;
        slow_reads_++;
    }
    begun == ReadStart::ring_full ? fail(id) : start_seams(id, reason);
    return Started::yes;
}

// The pages that a slice shares with its neighbours are touched with it.
void Filler::start_seams(ExtentId id, FillReason reason) {
    PlacedFile& file = extents_.file_of(id);
    if (file.layout.is_even() || file.layout.is_seam(file.index_of(id))) return;
    for (ExtentId seam : {id - 1, id + 1})
        if (file.contains(seam) && file.layout.is_seam(file.index_of(seam)) && local_reads() < kMaxReads &&
            extents_.is(seam, TIERD_EXTENT_ABSENT))
            start(seam, reason);
}

// Takes a fill off the list, whether it went well or not.
Filler::Fill Filler::end(ExtentId id) {
    auto found = fills_.extract(id);
    invariant(!found.empty(), "a fill ends once");
    reads_--;
    PlacedFile& file = extents_.file_of(id);
    if (file.slow_origin) {
        file.slow_reads--;
        slow_reads_--;
        queue_.resume_throttled();
    }
    return found.mapped();
}

FillReason Filler::finish(ExtentId id, uint64_t read_ns) {
    Fill fill = end(id);
    extents_.set_state(id, TIERD_EXTENT_RESIDENT);
    extents_[id].filled_ns = backend_.now_ns();
    extents_.set_flag(id, TIERD_EXTENT_MAPPED, false);
    extents_.set_flag(id, TIERD_EXTENT_UNTOUCHED, awaited_.erase(id) == 0);
    if (fill.reason == FillReason::demand) counters_.fills_demand++;
    if (fill.reason == FillReason::prefetch || fill.reason == FillReason::speculative)
        counters_.fills_read_ahead++;
    if (fill.reason == FillReason::preload) counters_.fills_preload++;
    events_.push_back({.kind = PlacementEvent::Kind::filled,
                       .extent = id,
                       .started_ns = fill.started_ns,
                       .read_ns = read_ns});
    return fill.reason;
}

// The read went wrong: its memory is returned, and whoever waits asks the kernel, which gives its own answer (SIGBUS, or the
// bytes).
void Filler::fail(ExtentId id) {
    end(id);
    evictor_.release(id, false);
    give_up(id, extents_.file_of(id).changed ? FailReason::changed : FailReason::unreadable);
}

void Filler::give_up(ExtentId id, FailReason reason) {
    if (extents_.is(id, TIERD_EXTENT_QUEUED)) extents_.set_state(id, TIERD_EXTENT_ABSENT);
    awaited_.erase(id);
    events_.push_back({.kind = PlacementEvent::Kind::failed, .extent = id, .reason = reason});
}

void Filler::on_released(ExtentId id) {
    if (extents_.file_of(id).changed)
        give_up(id, FailReason::changed);
    else if (is_awaited(id))
        queue_.demand(id);
    events_.push_back({.kind = PlacementEvent::Kind::released, .extent = id});
}

}  // namespace tierd
