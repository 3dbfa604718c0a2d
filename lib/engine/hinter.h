// hinter.h - makes touches of mapped extents visible, to learn how hot they are where no processor tells.
//
// Two kinds of hints, both without stopping anybody: a page of an extent with small pages is taken out of the arena and put
// back (Backend::rearm); where the extent is a huge page that would cost all of it, so its sessions are asked to unmap a page
// (wire::Kind::arm_hint). A session that was asked and does not obey hides its touches, which makes the extent look colder
// than it is, and costs nothing else.
//
// Owns:      the choice of what to hint next, and the account of what hints cost.
// Invariant: hints cost tierd and its readers at most what HintBudget allows; nothing is hinted that is moving, or that a
//            session without the ability has mapped.
// Callers:   the engine's thread.
#pragma once

#include <atomic>
#include <memory>
#include <random>

#include "lib/base/worker.h"
#include "lib/engine/mailbox.h"
#include "lib/engine/run_delay.h"
#include "lib/engine/sessions.h"
#include "lib/placement/placement.h"
#include "lib/sample/cpu_nodes.h"
#include "lib/sample/hints.h"

namespace tierd {

class Hinter {
  public:
    struct Config {
        bool on = false;           // false: a better source counts touches
        bool huge_pages = false;   // hint extents of a huge page too: it costs the reader more (docs/results)
        double share_of_core = 0;  // that hints may cost
        uint32_t epoch_ms = 100;
    };
    Hinter(Config config, Placement& placement, FileRegistry& files, Sessions& sessions,
           AccessSampler& sampler, Mailbox& mailbox, Worker& evictor);

    void turn_off() { config_.on = false; }
    bool is_on() const { return config_.on; }

    // A touch of a hinted extent that was one huge page: maps it by one entry again. That may wait for other processors, so
    // the evictor does it, behind which no eviction of this extent can have been posted: it is resident. False: not possible.
    bool map_huge(Client& client, const Region& region, ExtentId id, const Fault& fault, uint64_t arrived_ns);
    // The touching thread waited from `arrived_ns` until now.
    void on_waited(uint64_t arrived_ns);
    // Counts who touched what was hinted.
    void on_touched(const Client& client, const WeightFile& file, ExtentId id, const Fault& fault,
                    uint64_t arrived_ns);

    // Of a complete recording: what was touched before this touch is made to show its next one.
    void on_access(ExtentId id);

    // Faults that this round of the loop has read.
    void count_faults(size_t faults) { round_faults_ += faults; }
    // The round is over: of each the share of its faults that hints brought is what hints cost.
    void end_round();
    // `is_waiting`: somebody waits for the disk, so that nobody is hinted now.
    void epoch(uint64_t now_ns, bool is_waiting);

    const HintBudget& budget() const { return budget_; }
    double rate_per_s() const { return static_cast<double>(budget_.budget()) * 1000 / config_.epoch_ms; }

  private:
    static bool make_waker(Client& client);
    void mark_hintable(uint64_t now_ns);
    void update_boundaries();
    void hint_some();
    bool hint(ExtentId id);
    void arm_some_mapped();
    bool arm_mapped(ExtentId id);
    void refresh_heat(uint64_t now_ns);

    Config config_;
    Placement& placement_;
    FileRegistry& files_;
    Sessions& sessions_;
    AccessSampler& sampler_;
    Mailbox& mailbox_;
    Worker& evictor_;
    HintChooser chooser_;
    HintBudget budget_;
    std::minstd_rand random_;           // which page of an extent
    ExtentId last_access_ = kNoExtent;  // of a complete recording
    ExtentId next_mapped_ = 0;          // row to be looked at for one
    uint64_t hints_sent_ = 0;           // in this epoch
    uint64_t round_hints_ = 0;          // of this round's faults, those that hints brought
    uint64_t round_faults_ = 0;
    uint64_t round_cpu_ns_ = 0;  // of this thread, at the end of the last round
    uint64_t last_epoch_ns_ = 0;
    // What hinted touches cost on the evictor's thread, in this epoch.
    struct WorkerCost {
        std::atomic<uint64_t> cpu_ns{0};
        std::atomic<uint64_t> wait_ns{0};  // of the touching threads, from when this thread learned of it
    };
    std::shared_ptr<WorkerCost> worker_cost_ = std::make_shared<WorkerCost>();
    RunDelay run_delay_;
    uint64_t woken_late_ns_ = 0;  // by how much this thread learns of a touch later, as of the last epoch
    ThreadNodes thread_nodes_{CpuNodes::read()};
};

}  // namespace tierd
