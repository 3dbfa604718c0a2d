// rate_limit.h - how many bytes may be moved per second: a token bucket.
//
// Owns:      the bucket's level.
// Invariant: within any second at most `bytes_per_s` plus one move pass; the caller passes the time.
// Callers:   one thread, or under the caller's lock.
#pragma once

#include <algorithm>
#include <cstdint>

#include "lib/base/clock.h"

namespace tierd {

class RateLimit {
  public:
    // 0: no limit.
    explicit RateLimit(uint64_t bytes_per_s) : bytes_per_s_(bytes_per_s) {}

    void set(uint64_t bytes_per_s) { bytes_per_s_ = bytes_per_s; }
    uint64_t bytes_per_s() const { return bytes_per_s_; }

    // When the next move may begin; at or before `now_ns`: now. A move larger than the bucket only waits for what is
    // owed, so that the limit may be lower than a move's size.
    uint64_t ready_ns(uint64_t now_ns) const {
        return bytes_per_s_ == 0 ? now_ns : std::max(now_ns, free_ns_);
    }
    void spend(uint64_t bytes, uint64_t now_ns) {
        if (bytes_per_s_ == 0) return;
        auto cost_ns = static_cast<uint64_t>(static_cast<double>(bytes) / static_cast<double>(bytes_per_s_) *
                                             static_cast<double>(kNsPerSecond));
        free_ns_ = std::max(free_ns_, now_ns) + cost_ns;
    }

    // Nothing begins for so long.
    void rest(uint64_t ns, uint64_t now_ns) { free_ns_ = std::max(free_ns_, now_ns + ns); }

  private:
    uint64_t bytes_per_s_;
    uint64_t free_ns_ = 0;  // until then what was spent is being paid off
};

}  // namespace tierd
