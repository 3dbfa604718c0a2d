// score_victims.h - names victims by the scores that a policy gave to extents.
//
// Owns:      a batch of the extents of the lowest score, found by one scan of the table, and what changed since.
// Invariant: a victim is resident, not pinned, its score is no higher than at the scan, and no extent that was filled
//            or touched since has a lower one. Among equal scores the extent not touched for longest goes first. An
//            extent is named once per batch.
// Callers:   one thread. A scan costs about 10 ns per extent and serves some hundred victims or more. For read-ahead,
//            scans take at most a twentieth of the time; a demand miss without a victim scans at once.
// Fails:     never; it may name less than requested.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "lib/policy/policy.h"

namespace tierd {

class ScoreVictims {
  public:
    struct Need {
        uint64_t bytes = 0;
        uint64_t below = 0;       // only what is worth less
        bool for_demand = false;  // `below` does not count; what is to be held goes last
    };
    // It was filled or touched: its worth may be another than when it was scanned.
    void changed(ExtentId extent);

    // Appends extents until they hold as much as is needed.
    void name(const PolicyView& view, std::span<const tierd_extent_ctx> ctxs, Need need,
              std::vector<ExtentId>& out);

  private:
    struct Candidate {
        uint64_t score;
        uint64_t touched_ns;
        ExtentId extent;
        auto operator<=>(const Candidate&) const = default;
    };

    void add_changed(const PolicyView& view, std::span<const tierd_extent_ctx> ctxs);
    void scan(const PolicyView& view, std::span<const tierd_extent_ctx> ctxs);
    uint64_t take(const PolicyView& view, std::span<const tierd_extent_ctx> ctxs, uint64_t needed_bytes,
                  uint64_t below, std::vector<ExtentId>& out);

    std::vector<Candidate> batch_;  // ascending
    size_t next_ = 0;
    bool is_all_ = true;             // the batch holds everything that might go
    std::vector<ExtentId> changed_;  // since the scan, and not yet in the batch
    uint64_t again_at_ns_ = 0;       // an empty batch may be renewed
    uint64_t stale_at_ns_ = 0;       // any batch is renewed
};

}  // namespace tierd
