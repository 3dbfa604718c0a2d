// machine.h - a modelled machine on which a trace is played: memory tiers, a disk, readers, and a policy that places.
//
// Owns:      the clock, the account of each tier, what is being read, evicted and moved. It writes the tables.
// Invariant: no tier is granted more than its capacity; bytes are read only into granted memory; a policy's answer is
//            checked as tierd checks it. The same script, tiers and policy give the same result.
// Callers:   one thread; run() once.
// Fails:     an extent that is larger than every tier is bad_input; nothing else can.
//
// A policy sees what tierd would show it: misses, the first touch of what was read ahead, and what it asked to watch. It is
// asked at once and its answer holds at once; in tierd that takes some microseconds.
#pragma once

#include <deque>
#include <queue>
#include <span>
#include <unordered_map>
#include <vector>

#include "lib/policy/policy.h"
#include "lib/replay/result.h"
#include "lib/replay/script.h"
#include "lib/replay/tiers.h"

namespace tierd {

struct ReplayTables {
    std::span<tierd_extent> extents;  // Script::extents
    std::span<tierd_model> models;    // at least as many as the script's
    std::span<tierd_tier_info> tiers;
};

class Machine {
  public:
    // `ideal`: the policy is a measure. It sees every touch, evictions take no time, nothing is kept free in reserve.
    Machine(const Script& script, const ReplayTiers& tiers, ReplayTables tables, Policy& policy, bool ideal);
    Result<ReplayResult> run();
    PolicyView view(ExtentId wanted = kNoExtent) const;

  private:
    enum class Kind : uint8_t { open, touch, filled, evicted, moved, epoch };
    struct Event {
        uint64_t time_ns;
        uint64_t number;  // of equal times the one that was planned first
        Kind kind;
        uint32_t id;  // a reader or an extent
        bool operator>(const Event& other) const {
            return time_ns != other.time_ns ? time_ns > other.time_ns : number > other.number;
        }
    };
    struct Reader {
        size_t next = 0;  // touch
        uint64_t asked_ns = 0;
    };
    struct Move {
        uint8_t from = 0;
        uint8_t to = 0;
    };

    // machine.cc: time, readers, the policy
    void plan(uint64_t time_ns, Kind kind, uint32_t id);
    void on_event(const Event& event);
    void on_open(uint32_t reader);
    void on_touch(uint32_t reader);
    void serve(uint32_t reader, uint64_t asked_ns);
    void finish(uint32_t model);
    void on_epoch();
    ReplayCounts& counts_of(ExtentId id) { return result_.models[tables_.extents[id].model].counts; }
    void note(tierd_extent& row, uint32_t touches, bool seen);
    void wish(ExtentId id);
    void take();

    // machine_memory.cc: grants, reads, evictions, moves
    bool known(ExtentId id);
    bool refuse(Refusal refusal);
    void pump();
    void pump_demand();
    void pump_read_ahead();
    void pump_moves();
    bool start_fill(ExtentId id, bool demand);
    void on_filled(ExtentId id);
    uint8_t tier_with_room(uint32_t bytes) const;
    bool make_room(uint64_t bytes, bool for_demand, ExtentId wanted);
    uint64_t evict_by_age(uint64_t bytes);
    void keep_reserve();
    bool start_eviction(ExtentId id);
    void on_evicted(ExtentId id);
    bool start_move(const ProposedMove& move);
    void on_moved(ExtentId id);
    uint64_t free_bytes(uint8_t tier) const;

    const Script& script_;
    const ReplayTiers& setting_;
    ReplayTables tables_;
    Policy& policy_;
    const bool ideal_;
    ReplayResult result_;

    uint64_t now_ns_;
    uint64_t planned_ = 0;
    uint64_t sampled_ = 0;
    uint32_t running_ = 0;  // readers that are not done
    uint32_t longest_bytes_ = 0;
    std::priority_queue<Event, std::vector<Event>, std::greater<>> events_;
    std::vector<Reader> readers_;
    std::unordered_map<ExtentId, std::vector<uint32_t>> waiters_;  // readers
    std::deque<ExtentId> demand_;                                  // without memory
    std::deque<ExtentId> ahead_;
    std::deque<ProposedMove> moves_;
    std::unordered_map<ExtentId, Move> moving_;
    std::vector<uint64_t> evicting_bytes_;  // by tier
    uint64_t disk_free_ns_ = 0;             // when the disk has sent all that it was asked for
    uint32_t reading_ = 0;
    PolicyDecisions decisions_;
};

}  // namespace tierd
