// trace_recorder.h - writes what happens to extents into a trace, for an administrator who fetches it piece by piece.
//
// Owns:      the bytes that nobody has fetched yet.
// Invariant: the fetched pieces in a row are a readable trace. At most kMaxPendingBytes and a model wait; what comes
//            beyond that is counted, and the count is written where the gap is.
// Callers:   the engine's thread only, so there is nothing to lock and nobody waits.
// Fails:     never. A recording that nobody fetches from for kAbandonedNs stops and lets its memory go.
#pragma once

#include <string>
#include <unordered_map>

#include "lib/policy/policy.h"
#include "lib/trace/trace_writer.h"

namespace tierd {

// A piece of a trace that is being recorded.
struct TraceChunk {
    std::string bytes;         // what was recorded since the piece before
    uint64_t events = 0;       // since the recording began
    uint64_t events_lost = 0;  // not recorded, because too much was not fetched
};

class TraceRecorder {
  public:
    static constexpr size_t kMaxPendingBytes = size_t{16} << 20;
    static constexpr uint64_t kAbandonedNs = 30'000'000'000;

    // `complete`: every touch is made to be seen, so the trace can say that it holds all.
    explicit TraceRecorder(const PolicyView& view, bool complete = false);

    // What was written since the last call. `finish` writes the trace's end too.
    TraceChunk take(const PolicyView& view);
    TraceChunk finish(const PolicyView& view);
    bool abandoned() const { return abandoned_; }

    void model_opened(const PolicyView& view, const PolicyModel& model);
    // The model was there before the recording: tells what of it is in memory, and mapped.
    void resident_before(const PolicyView& view, uint32_t model);
    void model_closed(const PolicyView& view, uint32_t model);
    void first_session(const PolicyView& view, uint32_t model, uint32_t uid, uint64_t cgroup);
    void touched(const PolicyView& view, ExtentId extent, Touch touch);
    void filled(const PolicyView& view, ExtentId extent);
    void evicted(const PolicyView& view, ExtentId extent);
    // It was mapped ahead of any touch; its next touch was made to be seen.
    void mapped(const PolicyView& view, ExtentId extent);
    void armed(const PolicyView& view, ExtentId extent);
    bool is_complete() const { return complete_; }
    void epoch(const PolicyView& view);

  private:
    struct Open {
        PolicyModel model;
        bool written = false;  // only with its first event: its user is known then
    };

    bool has_room(const PolicyView& view);
    void write_open(const PolicyView& view, Open& open);
    void write(const PolicyView& view, TraceEventKind kind, ExtentId extent);
    uint64_t since_start(const PolicyView& view) const { return view.now_ns - started_ns_; }

    const bool complete_;
    const uint64_t started_ns_;
    uint64_t fetched_ns_;  // when somebody last asked
    TraceWriter writer_;
    std::unordered_map<uint32_t, Open> open_;  // by slot
    uint64_t events_ = 0;
    uint64_t lost_ = 0;
    uint32_t lost_here_ = 0;  // of these, not yet written
    bool abandoned_ = false;
};

}  // namespace tierd
