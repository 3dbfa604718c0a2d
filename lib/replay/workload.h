// workload.h - a trace as a replay plays it: who touches what, and how long each computes between.
//
// Owns:      the rows that the trace's models take, and for each opening of a model its touches.
// Invariant: a model that is opened again has the rows that it had; its openings do not overlap.
// Callers:   any thread; a finished script is never changed.
// Fails:     no_space when the models have more extents together than a table may hold.
//
// Each model is read by one reader that waits for what it touches, beside the readers of the other models. Of a recorded trace the
// time between a miss and its fill is that day's waiting and left out; what remains is computing.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lib/base/result.h"
#include "lib/trace/trace.h"

namespace tierd {

struct WorkloadTouch {
    uint64_t think_ns = 0;  // computing since the touch before was served
    uint32_t index = 0;
};

struct WorkloadModel {
    const TraceModel* facts = nullptr;  // in the trace, which must outlive the script
    uint32_t first_extent = 0;
    uint32_t extent_count = 0;
    uint64_t bytes = 0;
    std::vector<uint32_t> order;  // indices, of a whole pass
};

// One opening of a model.
struct WorkloadReader {
    uint32_t model = 0;  // in Script::models
    uint64_t open_ns = 0;
    std::vector<WorkloadTouch> touches;
};

struct Workload {
    std::vector<WorkloadModel> models;
    std::vector<WorkloadReader> readers;  // by open_ns
    std::vector<uint32_t> order;          // rows in the order of all touches in the trace
    uint32_t extents = 0;
    uint64_t bytes = 0;  // of all models
    bool complete = false;
    uint64_t unseen = 0;  // touches that the recording could not see, filled in from the passes that it shows
    std::string cant_tell;  // why what other policies would read can't be told from it; empty: it can
};

Result<Workload> make_workload(const Trace& trace);

}  // namespace tierd
