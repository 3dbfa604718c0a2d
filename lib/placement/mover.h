// mover.h - extents on their way from one memory tier to another.
//
// Owns:      the moves that are waiting or under way, and the second halves of exchanges.
// Invariant: an extent stays resident and mapped all the while; its memory is granted in both tiers until it has arrived; an
//            eviction meanwhile waits for the end of the move.
// Callers:   the thread that owns the Placement.
// Fails:     a move that can't be started is a Refusal; one that failed leaves the extent where it was.
#pragma once

#include <deque>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "lib/placement/backend.h"
#include "lib/placement/counters.h"
#include "lib/placement/decisions.h"
#include "lib/placement/extents.h"
#include "lib/tier/tier_table.h"

namespace tierd {

class Mover {
  public:
    Mover(Extents& extents, TierTable& tiers, Backend& backend, EngineCounters& counters,
          uint64_t extent_bytes);

    // Starts what a policy proposed, where it may be. One result for each proposal; valid until the next call.
    std::span<const Refusal> propose(std::span<const ProposedMove> moves);
    Refusal start(ExtentId id, uint8_t to, uint32_t priority, bool for_exchange = false);
    // Brings the pages of an extent together in its own tier. False: the tier has no space for that.
    bool consolidate(ExtentId id);
    // Every epoch: what is read from one node most moves to the tier near it, where another one is as fast.
    void bring_near();

    // What has to happen to the extent now that its move has ended.
    struct Ended {
        bool evict = false;
        bool not_whole = false;  // some of its memory is lost or in another tier
    };
    Ended finish(const MoveEnd& end);
    // Starts second halves of exchanges whose space has become free.
    void retry_deferred();
    // Forgets second halves when no first half is under way.
    void drop_stale();

    // True, and its eviction follows the move, when the extent is moving.
    bool evict_afterwards(ExtentId id, bool not_whole);
    // Its memory in another tier than its row says, after an unfinished move; forgotten by the call.
    std::optional<uint8_t> take_split(ExtentId id);

    bool is_moving(ExtentId id) const { return moves_.contains(id); }
    bool is_idle() const { return moves_.empty(); }
    size_t under_way() const { return moves_.size(); }
    uint64_t leaving_bytes(uint8_t tier);
    void cancel_from(uint8_t tier);

  private:
    struct Move {
        uint8_t from = kNoTier;
        uint8_t to = kNoTier;
        bool then_evict = false;
        bool not_whole = false;
    };
    bool is_exchange(const ProposedMove& down, const ProposedMove& up);
    uint8_t near_its_reader(const ProposedMove& move);

    Extents& extents_;
    TierTable& tiers_;
    Backend& backend_;
    EngineCounters& counters_;
    const uint64_t extent_bytes_;
    std::unordered_map<ExtentId, Move> moves_;
    std::unordered_map<ExtentId, uint8_t> split_;  // evicting, and where else some of their pages are
    std::deque<ProposedMove> deferred_;            // the second half of exchanges, until there is space
    ExtentId next_nearer_ = 0;                     // row to be looked at for a nearer tier
    std::vector<Refusal> results_;                 // of propose(), reused
};

}  // namespace tierd
