// trace_writer.h - encodes events as the bytes of a trace file, one after the other.
//
// Owns:      the bytes not yet taken, and the state that the next event is encoded against.
// Invariant: the bytes taken so far, in order, are a readable trace up to the last whole event.
// Callers:   one thread at a time.
// Fails:     never. An event of a slot that is not open is dropped; a time that runs backwards is written as the time
//            before.
#pragma once

#include <span>
#include <string>
#include <unordered_map>

#include "lib/trace/trace.h"

namespace tierd {

class TraceWriter {
  public:
    // `tiers`: number 1 first.
    TraceWriter(bool complete, std::span<const tierd_tier_info> tiers);

    void open(uint64_t time_ns, uint32_t slot, const TraceModel& model);
    // close, missing, minor, filled, evicted.
    void event(TraceEventKind kind, uint64_t time_ns, uint32_t slot, uint32_t index);
    void lost(uint64_t time_ns, uint32_t events);
    void end(uint64_t time_ns);

    // What was written since the last call.
    std::string take();
    size_t pending_bytes() const { return out_.size(); }

  private:
    struct Places {
        uint32_t touched = 0;
        uint32_t moved = 0;  // filled or evicted
    };

    void begin_event(TraceEventKind kind, uint64_t time_ns);

    std::string out_;
    uint64_t last_ns_ = 0;
    std::unordered_map<uint32_t, Places> open_;
};

// A whole trace at once, as `Trace` holds it.
std::string write_trace(const Trace& trace);

}  // namespace tierd
