// fill_queue.h - the extents that are to be read, in the order of precedence.
//
// Owns:      five lists of extents: what somebody waits for, what is surely touched next, what may be, what clients advised,
//            and what waits for another read of a slow file system.
// Invariant: demand and throttled hold only extents in the state queued; the others are requests, whose state is looked at
//            when their turn comes. Of prefetch and speculative, each extent once and at most kMaxAhead.
// Callers:   the thread that owns the Placement.
#pragma once

#include <deque>

#include "lib/placement/decisions.h"
#include "lib/placement/extents.h"

namespace tierd {

class FillQueue {
  public:
    static constexpr size_t kMaxAhead = 256;

    explicit FillQueue(Extents& extents) : extents_(extents) {}

    // Somebody waits. Sets the state of an absent extent to queued.
    void demand(ExtentId id);
    // Requests to read ahead. The earliest request is touched first, so the surplus is what comes last.
    Refusal prefetch(ExtentId id) { return request(id, prefetch_); }
    Refusal speculate(ExtentId id) { return request(id, speculative_); }
    // Only ever fills memory that is free. At most as many as there are rows.
    void advise(ExtentId id);
    // Nobody is left who advised anything of this file.
    void forget_advice(const PlacedFile& file);

    // The first demand waits until another read of a slow file system has ended.
    void throttle_first();
    void resume_throttled();

    uint64_t demand_bytes();
    bool has_demand() const { return !demand_.empty(); }
    bool is_empty() const { return demand_.empty() && prefetch_.empty(); }

    std::deque<ExtentId>& demands() { return demand_; }
    std::deque<ExtentId>& prefetches() { return prefetch_; }
    std::deque<ExtentId>& speculations() { return speculative_; }
    std::deque<ExtentId>& advice() { return advised_; }

  private:
    Refusal request(ExtentId id, std::deque<ExtentId>& queue);

    Extents& extents_;
    std::deque<ExtentId> demand_;
    std::deque<ExtentId> prefetch_;
    std::deque<ExtentId> speculative_;
    std::deque<ExtentId> advised_;
    std::deque<ExtentId> throttled_;
};

}  // namespace tierd
