// control.h - what an administrator can ask of the engine, as one interface: the control API and its tests
// speak to it.
//
// Callers:   any thread. A call posts to the engine's thread and waits for its answer, at most a few
//            milliseconds; none of them waits for the disk (preload starts a job and returns).
// Fails:     not_found for an unknown model or job (the hint lists what to do), bad_input for impossible
//            numbers, busy when the engine is shutting down.
#pragma once

#include <string>
#include <vector>

#include "lib/base/result.h"
#include "lib/engine/status.h"
#include "lib/sample/hot.h"
#include "lib/tier/tier_spec.h"

namespace tierd {

struct PolicyLoad {
    std::string name;    // for people
    std::string object;  // the bytes of a BPF object
    std::vector<NamedValue> knobs;
};

class Control {
  public:
    virtual ~Control() = default;

    virtual Result<EngineStatus> status() = 0;
    virtual Result<std::vector<ModelStatus>> models() = 0;
    virtual Result<std::vector<SessionStatus>> sessions() = 0;
    virtual Result<std::vector<TierStatus>> tiers() = 0;
    // Those that weight files are served from now.
    virtual Result<std::vector<DiskStatus>> disks() = 0;
    // Where the time of faults went since the start, a row a stage.
    virtual Result<std::vector<FaultStageStatus>> faults() = 0;
    virtual Result<SlowFault> slowest_fault() = 0;
    // `model` is a name, a path, or a number as models() gives them; a name stands for all parts of a split
    // model (the first part is described here).
    virtual Result<ModelDetail> tensors(const std::string& model) = 0;

    // Where statistics of accesses come from: what this machine offers, what is used, and why not the better one.
    virtual Result<std::vector<SourceStatus>> sources() = 0;
    // Until it is resumed, nothing is sampled and nobody is hinted; heat cools as if nothing was touched.
    virtual Result<std::vector<SourceStatus>> pause_sources(bool paused) = 0;
    // The hottest first, at most a thousand. `by` is tensor, layer, expert, extent, function or thread. Errors: bad_input.
    virtual Result<std::vector<HotRow>> hot(const std::string& by) = 0;
    // Of a split model, the first part.
    virtual Result<HeatmapStatus> heatmap(const std::string& model) = 0;

    // Reads the model into memory, up to the budget; a path that is not known yet is opened by tierd itself.
    // Returns the job.
    virtual Result<JobStatus> preload(const std::string& model) = 0;
    virtual Result<JobStatus> job(uint64_t job) = 0;
    // Pinned extents are never victims. Pinning does not read; combine with preload. Errors: no_space when
    // the pins would leave less than a few extents of the budget free.
    virtual Result<ModelStatus> pin(const std::string& model) = 0;
    virtual Result<ModelStatus> unpin(const std::string& model) = 0;
    // Drops every resident, unpinned extent of the model. Returns the bytes dropped.
    virtual Result<uint64_t> evict(const std::string& model) = 0;
    // Which policy decides, what it costs and what became of its decisions.
    virtual Result<PolicyStatus> policy() = 0;
    // Puts an eBPF policy in the place of what decides now; on error nothing changes. Errors: bad_input with the
    // verifier's complaint, denied or unsupported where no policy can be loaded.
    virtual Result<PolicyStatus> load_policy(const PolicyLoad& load) = 0;
    // Takes it back: the built-in one decides again. Errors: not_found when none is loaded.
    virtual Result<PolicyStatus> unload_policy() = 0;
    // Records what happens to extents from now on, until stop_trace(); the pieces in a row are a trace. Nobody fetching for
    // 30 s ends it too. Errors: busy while another recording goes on; not_found where none does.
    // `complete`: every touch is made to be seen, at the price of a fault for each.
    virtual Result<TraceChunk> start_trace(bool complete) = 0;
    virtual Result<TraceChunk> fetch_trace() = 0;
    virtual Result<TraceChunk> stop_trace() = 0;
    // Sets the budget; a smaller one evicts at once. Errors: bad_input below the minimum (a few extents).
    virtual Result<EngineStatus> set_budget(uint64_t budget_bytes) = 0;

    // Takes a memory tier into use: one that was found, a node's memory, or (without a node) a declared one; or opens one
    // again that was drained. Errors: bad_input with what to say instead.
    virtual Result<TierStatus> add_tier(const TierOverride& said) = 0;
    // A smaller one moves or drops what is too much. Errors: not_found; bad_input where the memory is not there.
    virtual Result<TierStatus> resize_tier(const std::string& name, uint64_t capacity_bytes) = 0;
    // Moves or drops all that is in it, and places nothing there any more; `remove_tier` forgets it then. Returns the job;
    // cancelled, it opens the tier again. Errors: not_found, busy, no_space where what is in it has nowhere to go.
    virtual Result<JobStatus> drain_tier(const std::string& name) = 0;
    virtual Result<JobStatus> remove_tier(const std::string& name) = 0;
    // Ends a job before its time. Returns what it had done.
    virtual Result<JobStatus> cancel(uint64_t job) = 0;
};

}  // namespace tierd
