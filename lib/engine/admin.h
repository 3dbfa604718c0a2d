// admin.h - the engine as administrators see and steer it: its state, its models, its jobs and its policy.
//
// Owns:      lines about what this machine can't do, and the sources of access statistics that it offers.
// Invariant: every answer is a copy, made in one call. None of the calls waits for the disk.
// Callers:   the engine's thread; AdminService's callers post to it (engine.h).
// Fails:     not_found for an unknown model or job, bad_input for impossible numbers, busy when the engine shuts down.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "lib/engine/heat_snapshot.h"
#include "lib/engine/status.h"
#include "lib/placement/policy_host.h"
#include "lib/sample/sources.h"

namespace tierd {

struct Core;

class AdminService {
  public:
    explicit AdminService(Core& core) : core_(core) {}

    EngineStatus status() const;
    void add_notes(std::vector<std::string> notes);
    std::vector<SessionStatus> sessions() const;
    std::vector<FaultStageStatus> faults() const;
    SlowFault slowest_fault() const;

    std::vector<ModelStatus> models() const;
    Result<ModelDetail> tensors(const std::string& model) const;
    Result<HeatmapStatus> heatmap(const std::string& model) const;
    HeatSnapshot heat_snapshot() const;
    Result<ModelStatus> set_pinned(const std::string& model, bool pinned);
    Result<uint64_t> evict(const std::string& model);
    Result<JobStatus> preload(const std::string& model);

    std::map<dev_t, uint64_t> bytes_on_devices() const;  // of files that are known
    bool disks_are_idle() const;                         // nothing was read lately, and nobody waits

    void offer_sources(std::vector<SourceOffer> offers) { offers_ = std::move(offers); }
    std::vector<SourceStatus> sources() const;
    std::vector<SourceStatus> pause_sources(bool paused);

    PolicyStatus policy() const;
    Result<void> install_policy(const NewPolicy& policy);

  private:
    ModelStatus describe(const WeightFile& file) const;
    void describe_source(SourceStatus& status) const;

    Core& core_;
    std::vector<std::string> notes_;
    std::vector<SourceOffer> offers_;
};

}  // namespace tierd
