// placement.h - where every extent is, and where it goes next: the one thing that the daemon and a replay both run.
//
// Owns:      the extents, the memory tiers, the fills, evictions and moves, the jobs, and the policy.
// Invariant: deterministic: no thread, no clock of its own, no system call; what it knows of the machine comes through
//            Backend and through the calls below. It never calls its owner: what sessions must learn is returned by
//            events(), and the owner handles it before the next call.
// Callers:   one thread. None of the calls waits.
//
// A demand miss: demand() → FillQueue → Filler → Evictor → Backend::read(); on_read() → event filled.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "lib/placement/drainer.h"
#include "lib/placement/events.h"
#include "lib/placement/evictor.h"
#include "lib/placement/fill_queue.h"
#include "lib/placement/filler.h"
#include "lib/placement/mover.h"
#include "lib/placement/policy_host.h"

namespace tierd {

struct PlacementConfig {
    uint64_t extent_bytes = 2 << 20;  // the largest extent
    uint32_t io_depth = 8;
    bool read_ahead = true;
    bool keeps_watermark = true;        // a little memory stays free while misses come
    std::vector<TierSpec> tiers;        // at least one
    std::string system_tier = "dram0";  // whose capacity the budget is
};

class Placement {
  public:
    Placement(const PlacementConfig& config, ExtentTable table, std::unique_ptr<Policy> policy,
              Backend& backend, PolicyHost::Hooks hooks);

    // --- files
    // Gives a file its rows and its slot, and shows it to the policy. The file must stay where it is until close(). Between
    // the two steps the caller may still give up with give_back_rows(). Errors: no_space when the table is full.
    Result<void> take_rows(PlacedFile& file);
    void give_back_rows(const PlacedFile& file) { extents_.give_back_rows(file); }
    void open(PlacedFile& file, std::span<const ExtentLabel> labels);
    void close(PlacedFile& file);  // an idle one
    // A session attached it, or none has it any more; a file may come and go many times while it is open.
    void attach(PlacedFile& file, uint32_t uid, uint64_t cgroup);
    void detach(PlacedFile& file);
    // The file is no longer what it was: nothing of it is filled again, and all of it is evicted.
    void mark_changed(PlacedFile& file);

    // --- touches
    // Somebody waits for the extent, which is not resident: ends in an event, filled or failed.
    void demand(ExtentId id) { filler_.demand(id); }
    // A touch was seen: counts it, and carries out what the policy proposes. `foreseen`: nobody has touched it yet. Such a
    // touch brings no other slices of its expert: each would foresee one more touch, and where not all of them fit they would
    // evict and read each other for ever.
    void accessed(ExtentId id, Touch touch, bool foreseen = false);
    // The extent was mapped ahead of any touch: further touches are not seen. Its next touch was made to be seen.
    void mapped_ahead(ExtentId id);
    void armed(ExtentId id);
    // Advice to read the file's bytes from `begin` to `end`; never evicts anything.
    void advise(const PlacedFile& file, uint64_t begin, uint64_t end);
    // One signal for a few extents is enough while nothing is short: with a touched resident extent, those behind it up to
    // this one may be mapped too.
    ExtentId mapped_with(ExtentId id);
    // Part of the extent's memory turned out to be missing: it is read again when it is next touched.
    void lost(ExtentId id) { evictor_.start(id, true); }

    // --- what the backend reports
    void on_read(ExtentId id, uint64_t read_ns);
    void on_read_failed(ExtentId id) { filler_.fail(id); }
    void on_released(ExtentId id, bool was_published);
    void on_moved(const MoveEnd& end);
    void on_policy_replies();

    // Starts reads. False: handle events() and call again.
    bool pump() { return filler_.pump(everything_fits()); }
    void epoch();
    // What happened since the last call. Empties the list.
    PlacementEvents take_events() { return std::exchange(events_, {}); }
    // When an epoch is due before its time, since tiers changed; 0: it is not.
    uint64_t take_epoch_due_ns() { return std::exchange(epoch_due_ns_, 0); }

    // --- administrators
    uint64_t evict(const PlacedFile& file);  // returns the bytes of the file that go
    void set_pinned(PlacedFile& file, bool pinned);
    void set_budget(uint64_t budget_bytes);
    JobStatus preload(std::span<PlacedFile* const> files);
    // Job numbers as in Jobs. Errors: not_found.
    Result<JobStatus> job(uint64_t number);
    void update_jobs();  // their progress; every epoch
    Result<JobStatus> cancel_job(uint64_t number);
    uint8_t add_tier(TierSpec spec);
    void resize_tier(uint8_t number, uint64_t capacity_bytes);
    void reopen_tier(uint8_t number);
    JobStatus drain_tier(uint8_t number, bool remove);
    Result<void> install_policy(const NewPolicy& policy);

    // While all that is in use fits, every touch that can be spared is; when it does not, first touches of what was read
    // ahead are left to be seen, since they tell the policy where each pass is.
    bool everything_fits() const { return attached_bytes_ <= tiers_.usable_bytes(); }
    bool is_quiet() const { return filler_.local_reads() == 0 && !queue_.has_demand(); }
    uint64_t pinned_bytes() const { return pinned_bytes_; }

    Extents& extents() { return extents_; }
    TierTable& tiers() { return tiers_; }
    const TierTable& tiers() const { return tiers_; }
    PolicyHost& policy() { return policy_; }
    Filler& filler() { return filler_; }
    Evictor& evictor() { return evictor_; }
    Mover& mover() { return mover_; }
    Drainer& drainer() { return drainer_; }
    Jobs& jobs() { return jobs_; }
    EngineCounters& counters() { return counters_; }

  private:
    void carry_out(const PolicyDecisions& decisions);
    void count(Proposal proposal, Refusal refusal);
    Refusal propose_eviction(ExtentId id);
    Refusal propose_watch(ExtentId id);
    void count_heat(ExtentId id, uint64_t now_ns);
    void update_tiers();
    void end_drain(Job& job);
    void tier_changed(uint8_t tier);

    const PlacementConfig config_;
    Backend& backend_;
    EngineCounters counters_;
    PlacementEvents events_;
    Extents extents_;
    TierTable tiers_;
    PolicyHost policy_;
    Mover mover_;
    Evictor evictor_;
    FillQueue queue_;
    Jobs jobs_;
    Filler filler_;
    Drainer drainer_;
    uint64_t attached_bytes_ = 0;  // sizes of all files that have clients
    uint64_t pinned_bytes_ = 0;    // memory of all pinned files
    uint64_t epoch_due_ns_ = 0;
};

}  // namespace tierd
