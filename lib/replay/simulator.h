// simulator.h - a modelled machine beneath the engine's own Placement, which runs a trace: memory tiers, a disk,
// readers and a policy.
//
// Owns:      the clock, the disk, the readers and what each has mapped. Placement decides what is read, evicted and
//            moved, as in the daemon.
// Invariant: the same workload, tiers and policy give the same result. Bytes are read only into granted memory.
// Callers:   one thread; run() once.
// Fails:     an extent that is larger than every tier is bad_input; nothing else can.
//
// A policy sees what tierd would show it: misses, first touches of extents that were read ahead, and touches of
// watched extents. It is called at once and its answer takes effect at once; in tierd that takes some microseconds.
#pragma once

#include <memory>
#include <queue>
#include <span>
#include <unordered_map>
#include <vector>

#include "lib/placement/placement.h"
#include "lib/replay/result.h"
#include "lib/replay/tiers.h"
#include "lib/replay/workload.h"

namespace tierd {

class Simulator final : private Backend {
  public:
    // `tables`: that the policy's programs read, with rows for the whole script; null: there are none. `ideal`: the
    // policy is a measure. It sees every touch, evictions take no time, nothing is kept free in reserve. Errors:
    // errno of mmap(2).
    static Result<std::unique_ptr<Simulator>> make(const Workload& workload, const ReplayTiers& tiers,
                                                   std::unique_ptr<Policy> policy,
                                                   std::shared_ptr<BpfTables> tables, bool ideal);
    Result<ReplayResult> run();
    PolicyView view() { return placement_.policy().view(); }

  private:
    enum class Kind : uint8_t { open, touch, read, released, moved, epoch };
    struct Event {
        uint64_t time_ns;
        uint64_t number;  // of equal times the one that was planned first
        Kind kind;
        uint32_t id;       // a reader or an extent
        uint64_t read_ns;  // of read: the bytes were there
        bool operator>(const Event& other) const {
            return time_ns != other.time_ns ? time_ns > other.time_ns : number > other.number;
        }
    };
    struct Reader {
        size_t next = 0;  // touch
        uint64_t asked_ns = 0;
    };

    Simulator(const Workload& workload, const ReplayTiers& tiers, ExtentTable table,
              std::unique_ptr<Policy> policy, bool ideal);

    // --- Backend
    uint64_t now_ns() override { return now_ns_; }
    ReadStart read(PlacedFile& file, ExtentId id, int node) override;
    void submit_reads() override {}
    void release(PlacedFile& file, ExtentId id, bool was_published) override;
    void move(PlacedFile& file, MoveOrder order) override;
    void cancel_move(ExtentId) override {}
    bool rearm(PlacedFile& file, ExtentId id, int node) override;

    void plan(uint64_t time_ns, Kind kind, uint32_t id);
    void on_event(const Event& event);
    void on_open(uint32_t reader);
    void on_touch(uint32_t reader);
    void sample(ExtentId id);
    void map(ExtentId id);
    void pump();
    void handle_events();
    void serve(uint32_t reader);
    void serve_waiters(ExtentId id);
    void finish(uint32_t model);
    ReplayCounts& counts_of(ExtentId id) {
        return result_.models[placement_.extents().file_of(id).slot].counts;
    }
    void add_up();

    const Workload& script_;
    const ReplayTiers& setting_;
    const bool ideal_;
    uint64_t now_ns_;
    Placement placement_;
    std::vector<std::unique_ptr<PlacedFile>> files_;  // as Script::models
    ReplayResult result_;
    uint64_t planned_ = 0;
    uint64_t sampled_ = 0;
    uint32_t running_ = 0;  // readers that are not done
    std::priority_queue<Event, std::vector<Event>, std::greater<>> events_;
    std::vector<Reader> readers_;
    std::unordered_map<ExtentId, std::vector<uint32_t>> waiters_;  // readers
    std::vector<bool> mapped_;                                     // rows whose touches are no faults
    uint64_t disk_free_ns_ = 0;  // when the disk has sent all that it was asked for
};

}  // namespace tierd
