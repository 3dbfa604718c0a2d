// trace.h - what happened to the extents of some models over a while: the input of `tierctl policy test`.
//
// Owns:      the words of a trace in memory. docs/trace-format.md describes the file.
// Invariant: events ascend in time; an event names an extent of a model that is open in its slot at that time.
// Callers:   any thread; values.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bpf/tierd_policy.h"

namespace tierd {

// Neighbouring extents that are alike. Real models have few runs: a layer's attention, an expert's slices.
struct TraceRun {
    uint32_t count = 0;
    uint32_t bytes = 0;  // of memory, each of them
    uint16_t layer = TIERD_NO_LAYER;
    uint16_t expert = TIERD_NO_EXPERT;
    uint8_t role = TIERD_ROLE_OTHER;

    bool operator==(const TraceRun&) const = default;
};

struct TraceModel {
    std::string name;
    uint32_t uid = 0;
    uint64_t cgroup = 0;
    uint32_t layers = 0;
    uint32_t experts = 0;         // greatest number of experts in a layer; 0: dense
    std::vector<TraceRun> runs;   // all extents, in the file's order
    std::vector<uint32_t> order;  // indices in the order of a pass; empty: the file's order
    bool order_learned = false;

    uint32_t extent_count() const;
    bool operator==(const TraceModel&) const = default;
};

enum class TraceEventKind : uint8_t {
    open = 1,     // `index` is the place in Trace::models
    close = 2,    // the slot is free again
    missing = 3,  // a touch of an extent that was not resident
    minor = 4,    // a touch of one that was; in a complete trace, of whichever
    filled = 5,   // its bytes arrived
    evicted = 6,  // its memory was returned
    lost = 7,     // `index` events happened here that could not be recorded in time
    end = 8,      // the recording ended in order
    mapped = 9,   // it was mapped without a touch: further touches are not seen
    armed = 10,   // its next touch is seen again
};

struct TraceEvent {
    uint64_t time_ns = 0;  // since the trace began
    uint32_t slot = 0;     // of the model; several may be open
    uint32_t index = 0;    // of the extent in its model
    TraceEventKind kind = TraceEventKind::missing;

    bool operator==(const TraceEvent&) const = default;
};

struct Trace {
    bool complete = false;  // every touch is in it (synthetic, or recorded so); else those that tierd saw
    bool ended = false;     // its last event is `end`
    std::vector<tierd_tier_info> tiers;  // memory tiers of the machine, number 1 first
    std::vector<TraceModel> models;
    std::vector<TraceEvent> events;
};

inline constexpr uint32_t kMaxTraceExtents = 16u << 20;      // of one model
inline constexpr size_t kMaxTraceBytes = size_t{256} << 20;  // of a file; six times that in memory

}  // namespace tierd
