// trace_invariants.h - what must hold of every trace that was read, whatever the bytes: shared by the fuzzer and the tests.
//
// Callers:   any thread; pure.
#pragma once

#include <map>
#include <string>

#include "lib/trace/trace_reader.h"
#include "lib/trace/trace_writer.h"

namespace tierd::test {

inline std::string broken_invariant(const Trace& trace) {
    std::map<uint32_t, uint32_t> open;  // slot → extents
    uint64_t last_ns = 0;
    for (const TraceEvent& event : trace.events) {
        if (event.time_ns < last_ns) return "time runs backwards";
        last_ns = event.time_ns;
        if (event.kind == TraceEventKind::lost || event.kind == TraceEventKind::end) continue;
        if (event.kind == TraceEventKind::open) {
            if (event.index >= trace.models.size()) return "an unknown model is opened";
            if (!open.emplace(event.slot, trace.models[event.index].extent_count()).second)
                return "a slot is opened twice";
            continue;
        }
        auto found = open.find(event.slot);
        if (found == open.end()) return "an event of a closed slot";
        if (event.kind == TraceEventKind::close)
            open.erase(found);
        else if (event.index >= found->second)
            return "an extent beyond the model";
    }
    return {};
}

// Empty: fine, or refused.
inline std::string parse_and_check_trace(const std::string& bytes) {
    auto trace = parse_trace(bytes);
    if (!trace) return {};
    if (std::string broken = broken_invariant(*trace); !broken.empty()) return broken;
    auto again = parse_trace(write_trace(*trace));
    if (!again) return "what was written can't be read: " + again.error().text();
    if (again->events != trace->events || again->models != trace->models ||
        again->complete != trace->complete)
        return "what was written reads differently";
    return {};
}

}  // namespace tierd::test
