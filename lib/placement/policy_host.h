// policy_host.h - the policy that decides: every question it is asked, what it sees, and its coming and going.
//
// Owns:      the deciding policy, the tables that eBPF objects read, the record of loads and ejections, and the trace that
//            is being recorded, which sees what the policy sees.
// Invariant: a policy proposes only: its answers are returned as values, and Placement carries out what it validates.
//            The built-in policy is told everything, also while an eBPF object decides.
// Callers:   the thread that owns the Placement.
// Fails:     load errors as values. A faulty policy is ejected, and the built-in one decides again.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "lib/placement/backend.h"
#include "lib/placement/decisions.h"
#include "lib/placement/extents.h"
#include "lib/placement/trace_recorder.h"
#include "lib/policy/bpf_policy.h"
#include "lib/tier/tier_table.h"

namespace tierd {

// What became of policies since the start.
struct PolicyRecord {
    DecisionCounts decisions;  // of the policy that decides now
    uint32_t evictions_in_epoch = 0;
    uint64_t loaded_at_ns = 0;
    std::vector<std::string> init_log;  // of its tierd/init
    uint64_t loads = 0;
    uint64_t reloads = 0;
    uint64_t ejections = 0;
    std::string ejected;
    std::string ejected_reason;
};

// An object that was loaded against tables of Space::rows, ready to decide.
struct NewPolicy {
    std::shared_ptr<BpfObject> object;
    std::vector<std::string> log;  // of its tierd/init
    bool is_reload = false;
};

class PolicyHost {
  public:
    struct Hooks {
        std::function<void()> replied = [] {};  // any thread: the policy's thread has answers; call collect()
        std::function<void()> outgrown = [] {
        };  // the tables are too small: load the object again, with larger ones
    };
    PolicyHost(std::unique_ptr<Policy> policy, Extents& extents, TierTable& tiers, Backend& backend,
               Hooks hooks);

    // --- what happens; each returns what the policy proposes, valid until the next call
    void opened(const PlacedFile& file);
    void closed(const PlacedFile& file);
    const PolicyDecisions& first_session(PlacedFile& file);
    const PolicyDecisions& last_session(PlacedFile& file);
    // `foreseen`: nobody has touched it yet, so nothing is read ahead for it.
    const PolicyDecisions& accessed(ExtentId id, Touch touch, bool foreseen);
    void recorded_access(ExtentId id, Touch touch);  // after the access was counted: for the trace
    void mapped(ExtentId id);                        // ahead of any touch
    void armed(ExtentId id);
    void filled(ExtentId id);
    void evicted(ExtentId id);
    // Victims for `bytes`; `wanted`: what a read-ahead wants the memory for.
    const PolicyDecisions& reclaim(uint64_t bytes, bool for_demand, ExtentId wanted);
    const PolicyDecisions& tier_changed(uint8_t tier);
    const PolicyDecisions& epoch();
    const PolicyDecisions& collect();

    void begin_epoch();
    void count(Proposal proposal, Refusal refusal);
    // False when the epoch's evictions by proposal are used up.
    bool may_evict() const;
    void count_eviction() { record_.evictions_in_epoch++; }

    // --- what it sees
    PolicyView view(ExtentId wanted = kNoExtent);
    void publish_tiers();
    void set_gpus(uint32_t gpus, uint32_t leases) { gpus_ = gpus, leases_ = leases; }

    // --- a policy comes, and goes
    struct Space {
        std::shared_ptr<BpfTables> tables;  // null, or too small: make new ones
        uint32_t rows = 0;
        PolicyView view = {};  // for tierd/init: figures only
    };
    Space space();
    // Puts the object in the place of the policy that decides, between two events. Errors: busy when the tables changed
    // meanwhile, not_found when a reload's object was unloaded; then nothing has changed.
    Result<void> install(const NewPolicy& policy);
    Result<void> unload();
    // From now on programs read these tables; they get what is known already. Errors: busy when they are smaller than those
    // before, the errno of mmap(2).
    Result<void> share(std::shared_ptr<BpfTables> tables);
    // Ejects an object that should go.
    void check();

    // --- a recording. What is open already comes first. Errors: busy, not_found.
    // `complete`: the caller makes every touch be seen, as long as records_all().
    Result<TraceChunk> start_trace(bool complete = false);
    Result<TraceChunk> fetch_trace();
    Result<TraceChunk> stop_trace();

    bool records_all() const { return recorder_ && recorder_->is_complete() && !recorder_->abandoned(); }

    std::string name() const { return std::string(policy_->name()); }
    const PolicyRecord& record() const { return record_; }
    const BpfPolicy* bpf() const { return bpf_; }
    const BpfTables* tables() const { return tables_.get(); }
    // Asked for proposals for every file in use, after an installation.
    const PolicyDecisions& introduce(const PlacedFile& file);

  private:
    PolicyDecisions& fresh();
    void publish_file(const PlacedFile& file);
    void publish_usage();
    void grow_if_needed();
    void put_in_place(std::unique_ptr<Policy> policy, BpfPolicy* bpf);

    std::unique_ptr<Policy> policy_;
    BpfPolicy* bpf_ = nullptr;  // policy_, where an object decides
    Extents& extents_;
    TierTable& tiers_;
    Backend& backend_;
    Hooks hooks_;
    std::shared_ptr<BpfTables> tables_;  // shared with programs since the first load; null before
    bool growing_ = false;               // a reload with more rows has been asked for
    std::array<tierd_tier_info, TIERD_MAX_TIERS> tier_infos_{};  // what policies see of tiers_
    size_t tiers_shown_ = 1;                                     // of these, up to the greatest number in use
    uint32_t gpus_ = 0, leases_ = 0;
    PolicyRecord record_;
    PolicyDecisions decisions_;                // reused, so that a fault allocates nothing
    std::unique_ptr<TraceRecorder> recorder_;  // null: nothing is recorded
};

}  // namespace tierd
