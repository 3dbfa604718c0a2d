// lru.h - evicts the extent whose last seen touch is oldest. Simple, and the reference for the other policies.
//
// Owns:      the list of resident extents, the longest untouched first.
// Invariant: every extent that was reported filled and not yet evicted is in exactly one list.
// Callers:   the engine's thread. Each event is O(1).
// Fails:     never; events about extents beyond the table are ignored.
//
// Touches of an extent that a session has mapped are not seen, so this is close to first-in-first-out. A pass over a
// model larger than the budget evicts each extent just before its next touch. `auto` exists for both reasons.
#pragma once

#include "lib/policy/extent_lists.h"
#include "lib/policy/readahead.h"

namespace tierd {

class LruPolicy final : public Policy {
  public:
    std::string_view name() const override { return "lru"; }
    void model_open(const PolicyView& view, const PolicyModel& model) override;
    void model_close(const PolicyView& view, uint32_t model) override;
    void last_session(const PolicyView&, uint32_t model, PolicyDecisions&) override {
        read_ahead_.last_session(model);
    }
    void fault(const PolicyView& view, ExtentId extent, Touch touch, PolicyDecisions& out) override;
    void filled(const PolicyView& view, ExtentId extent) override;
    void evicted(const PolicyView& view, ExtentId extent) override;
    void reclaim(const PolicyView& view, uint64_t needed_bytes, bool for_demand,
                 PolicyDecisions& out) override;
    void epoch(const PolicyView& view, PolicyDecisions& out) override;

  private:
    struct Note {
        uint32_t touch_clock = 0;  // of the last touch; 0: none since it was filled
        bool wanted = false;       // a demand miss waits for it
        bool ahead = false;        // resident by read-ahead, not touched since
    };

    bool known(const PolicyView& view, ExtentId extent);
    bool recent(const Note& note) const;

    ExtentLists lists_{2};
    ExtentLists::List by_age_ = lists_.take_block();
    ExtentLists::List pinned_ = by_age_ + 1;  // met while looking for victims; looked at again in the epochs
    std::vector<Note> notes_;
    uint32_t clock_ = 0;
    ReadAhead read_ahead_;
};

}  // namespace tierd
