// score_victims.h - who goes first when a policy says what each extent is worth.
//
// Owns:      a batch of the extents worth least, found by one scan of the table, and what changed since.
// Invariant: what is named is resident, not pinned and worth no more than when it was found, and nothing that was filled or
//            touched meanwhile is worth less; of equals the one not touched
//            for longest goes first. An extent is named once a batch.
// Callers:   one thread. A scan costs about 10 ns an extent and serves some hundred victims or more. Read-ahead alone makes
//            it take a twentieth of the time at most; when demand finds nothing it is made at once.
// Fails:     never; it may name less than was asked for.
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
