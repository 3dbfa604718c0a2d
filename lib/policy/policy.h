// policy.h - the interface of placement policies, built in and eBPF.
//
// Owns:      the types of calls and decisions; no state.
// Invariant: a policy proposes, the engine decides: every proposal is validated (state, capacity, pins), so a wrong one
//            costs speed and nothing else.
// Callers:   the engine's thread only. A policy never blocks, never does I/O.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "bpf/tierd_policy.h"

namespace tierd {

// A row of the extent table. Rows of one weight file are consecutive: first_extent + index.
using ExtentId = uint32_t;
inline constexpr ExtentId kNoExtent = UINT32_MAX;

// How a touch was seen.
enum class Touch : uint8_t {
    missing,  // the extent was not resident: a demand miss
    minor,    // it was resident but not mapped in that session
};

// One weight file, as the policy sees it while the file has sessions or resident extents.
struct PolicyModel {
    uint32_t model = 0;  // slot number, reused after model_close
    ExtentId first_extent = 0;
    uint32_t extent_count = 0;
    uint64_t extent_bytes = 0;  // the longest; each row has its own
    uint64_t file_bytes = 0;
    std::span<const uint32_t>
        order;  // extent indices in the order in which a pass is expected to touch them (each once):
                // learned in earlier runs, else by the file's offsets. Valid until model_close.
    bool order_learned = false;
    // For policies that distinguish models; the built-in ones do not.
    std::string_view name = {};  // as administrators see it; valid until model_close
    uint32_t uid = 0;            // user of the session that opened it
    uint64_t cgroup = 0;         // id of that session's cgroup; 0: unknown
};

// The memory that the policy places extents in.
struct PolicyTier {
    uint64_t capacity_bytes = 0;  // the budget
    uint64_t used_bytes = 0;      // granted: resident, filling and evicting
};

inline constexpr size_t kMaxWatch = 128;  // extents in one answer: about a millisecond

// A proposal to move a resident extent to another memory tier.
struct ProposedMove {
    ExtentId extent = kNoExtent;
    uint8_t tier = TIERD_NO_TIER;
    uint32_t priority = 0;  // greater goes first
};

// What the policy answers. The engine takes the entries in order and stops when it has enough.
struct PolicyDecisions {
    std::vector<ExtentId> read_ahead;  // fill these, in order; ignored when not absent
    std::vector<ExtentId>
        speculative;  // as read_ahead, when there is nothing else to read: they may not be touched
    std::vector<ExtentId> evict;      // drop these; ignored when not resident or pinned
    std::vector<ProposedMove> moves;  // ignored when not resident, pinned elsewhere, or the tier is full
    std::vector<ExtentId> watch;      // let the next touch of these be seen, though they are mapped; a hint
    void clear() {
        read_ahead.clear();
        speculative.clear();
        evict.clear();
        moves.clear();
        watch.clear();
    }
};

struct PolicyView {
    std::span<tierd_extent> extents;  // the whole table
    PolicyTier dram;
    uint64_t now_ns = 0;                          // CLOCK_MONOTONIC
    std::span<const tierd_tier_info> tiers = {};  // by number; [0] is none. Empty: dram is all there is
    uint32_t models = 0;                          // slots in use are 0 .. models-1
    uint32_t gpus = 0, leases = 0;                // the same of GPUs and leases
    ExtentId wanted =
        kNoExtent;  // in reclaim() without demand: what memory is wanted for; none: to have some free
};

class Policy {
  public:
    virtual ~Policy() = default;
    virtual std::string_view name() const = 0;

    virtual void model_open(const PolicyView& view, const PolicyModel& model) = 0;
    virtual void model_close(const PolicyView& view, uint32_t model) = 0;

    // Between model_open and model_close sessions come and go: the first, the last. Policies that look at rows alone
    // need not know.
    virtual void first_session(const PolicyView& /*view*/, uint32_t /*model*/, PolicyDecisions& /*out*/) {}
    virtual void last_session(const PolicyView& /*view*/, uint32_t /*model*/, PolicyDecisions& /*out*/) {}

    // A touch was seen. May ask for read-ahead.
    virtual void fault(const PolicyView& view, ExtentId extent, Touch touch, PolicyDecisions& out) = 0;

    // State changes, so that a policy can keep lists instead of sweeping the table.
    virtual void filled(const PolicyView& view, ExtentId extent) = 0;
    virtual void evicted(const PolicyView& view, ExtentId extent) = 0;

    // Memory is needed: name at least `needed_bytes` worth of resident extents, the best victim first. Called
    // on a demand miss without free memory (`for_demand`) and ahead of need, for read-ahead; for the latter a
    // policy may name fewer or none: what it holds is then worth more than what it would read ahead.
    virtual void reclaim(const PolicyView& view, uint64_t needed_bytes, bool for_demand,
                         PolicyDecisions& out) = 0;

    // A memory tier came, went, grew, shrank, or is to be emptied; its number's entry in `view.tiers` says what it is
    // now. Before anything is placed by the new state.
    virtual void tier_change(const PolicyView&, uint8_t, PolicyDecisions&) {}

    // Every epoch (100 ms unless configured).
    virtual void epoch(const PolicyView& view, PolicyDecisions& out) = 0;

    // What a policy that answers later has decided since; the engine asks when the policy has called its `notify`.
    virtual void collect(const PolicyView& /*view*/, PolicyDecisions& /*out*/) {}
};

// Makes a built-in policy: "lru", "sweep" or "auto". Null for any other name.
std::unique_ptr<Policy> make_builtin_policy(std::string_view name);
std::span<const std::string_view> builtin_policy_names();

}  // namespace tierd
