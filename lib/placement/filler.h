// filler.h - from a wanted extent to its bytes in memory.
//
// Owns:      the fills under way, and which extents somebody waits for.
// Invariant: a read is only ever aimed at a filling extent, whose memory has been granted; every fill that began ends in
//            exactly one event, filled or failed. Somebody waits for an extent from demand() to that event.
// Callers:   the thread that owns the Placement.
// Fails:     by a failed event, which sends whoever waits to the kernel's mapping.
#pragma once

#include <unordered_map>
#include <unordered_set>

#include "lib/placement/backend.h"
#include "lib/placement/counters.h"
#include "lib/placement/events.h"
#include "lib/placement/evictor.h"
#include "lib/placement/extents.h"
#include "lib/placement/fill_queue.h"
#include "lib/placement/jobs.h"

namespace tierd {

// Why an extent is being filled; the order is the order of precedence.
enum class FillReason : uint8_t { demand, prefetch, speculative, preload };

struct FillLimits {
    uint64_t extent_bytes = 2 << 20;  // the largest extent
    bool keeps_watermark = true;
    uint32_t io_depth = 8;  // prefetches keep at most so many reads under way; demand is not held back by it
};

class Filler {
  public:
    Filler(FillLimits limits, Extents& extents, TierTable& tiers, FillQueue& queue, Jobs& jobs,
           Evictor& evictor, Mover& mover, Backend& backend, EngineCounters& counters,
           PlacementEvents& events);

    // Somebody waits for the extent, until the event that answers.
    void demand(ExtentId id);
    bool is_awaited(ExtentId id) const { return awaited_.contains(id); }

    // Starts whatever can be started: demand first, then what is read ahead, then preloads and advice. False: it stopped at
    // an event that has to be handled before it goes on; call again.
    bool pump(bool everything_fits);

    // The read ended and the bytes are whole. Returns why it had been started; the extent is resident.
    FillReason finish(ExtentId id, uint64_t read_ns);
    void fail(ExtentId id);
    // Memory came back: what is awaited is queued again, or has no hope where the file changed.
    void on_released(ExtentId id);

    bool is_idle() const { return reads_ == 0 && queue_.is_empty(); }
    bool is_reading() const { return reads_ > 0; }
    uint32_t local_reads() const { return reads_ - slow_reads_; }
    bool has_preload() const;
    // One more prefetch can be started at once.
    bool has_more() const { return has_more_; }
    uint64_t last_read_ns() const { return last_read_ns_; }
    void note_read(uint64_t now_ns) { last_read_ns_ = now_ns; }

  private:
    enum class Started : uint8_t {
        yes,
        no_memory,     // the budget has no room now
        no_huge_page,  // the budget has, the hugetlb pool has not
        no_buffer,     // all bounce buffers are taken
        throttled,     // slow file systems have enough reads under way
    };
    struct Fill {
        FillReason reason = FillReason::demand;
        uint64_t started_ns = 0;
    };

    bool pump_demand(bool everything_fits);
    bool read_one_ahead();
    bool pump_one(std::deque<ExtentId>& queue, FillReason reason, bool patient = false);
    bool pump_preload(Job& job);
    uint64_t requested_bytes(const std::deque<ExtentId>& queue);
    Started start(ExtentId id, FillReason reason);
    void start_seams(ExtentId id, FillReason reason);
    bool may_read(const PlacedFile& file) const;
    Fill end(ExtentId id);
    void give_up(ExtentId id, FailReason reason);

    const FillLimits limits_;
    Extents& extents_;
    TierTable& tiers_;
    FillQueue& queue_;
    Jobs& jobs_;
    Evictor& evictor_;
    Mover& mover_;
    Backend& backend_;
    EngineCounters& counters_;
    PlacementEvents& events_;
    std::unordered_map<ExtentId, Fill> fills_;
    std::unordered_set<ExtentId> awaited_;
    uint32_t reads_ = 0;          // = fills_.size()
    uint32_t slow_reads_ = 0;     // of these, from file systems that may hang
    bool served_demand_ = false;  // since the queue of demand was last empty
    bool has_more_ = false;
    uint64_t last_read_ns_ = 0;  // the start of the last one; that of a header counts
};

}  // namespace tierd
