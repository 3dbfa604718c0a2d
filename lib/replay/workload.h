// workload.h - a trace in the form that a replay runs: the touches of each reader, and the computing time between
// them.
//
// Owns:      the rows of the trace's models, and for each opening of a model its touches.
// Invariant: a model that is opened again has the same rows; its openings do not overlap.
// Callers:   any thread; a finished workload never changes.
// Fails:     no_space when the models have more extents together than a table may hold.
//
// Each model has one reader, which waits for each extent that it touches, concurrently with the readers of other
// models. The time between a miss and its fill in a recorded trace was waiting and is left out; the rest is
// computing.
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
