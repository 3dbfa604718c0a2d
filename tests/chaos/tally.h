// tally.h - what a chaos run counts, and what it found wrong.
//
// Owns:      the counters and the first failures, word for word.
// Invariant: a run without failures read no wrong byte, lost no wake-up and saw no crash.
// Callers:   any thread.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace tierd::chaos {

using Count = std::atomic<uint64_t>;

struct Tally {
    Count bytes_verified{0};
    Count wrong_bytes{0};
    Count sigbus{0};
    Count stale_reads{0};  // old bytes long after a file was changed in place
    Count readers{0};
    Count readers_killed{0};
    Count readers_stopped{0};
    Count forks{0};
    Count maps_served{0};     // by tierd
    Count maps_by_kernel{0};  // on the kernel's mapping from the start
    Count reattached{0};      // processes that tierd served again after they had fallen back
    Count kills_survived{0};
    Count stops_survived{0};  // SIGSTOP, then SIGCONT
    Count restarts{0};        // orderly
    Count crashes{0};         // of tierd, by itself
    Count over_budget{0};     // lives of tierd whose arenas held more than the greatest budget of that life
    Count models_replaced{0};
    Count models_changed{0};  // in place
    Count models_vanished{0};
    Count policies_loaded{0};
    Count policies_refused{0};
    Count policies_ejected{0};
    Count orders{0};          // that an administrator gave and tierd answered
    Count lost_wakeups{0};    // readers that did not answer
    Count worst_stall_us{0};  // of a page, whatever happened meanwhile

    void stall(double ms) {
        const auto us = static_cast<uint64_t>(ms * 1000);
        uint64_t worst = worst_stall_us;
        while (us > worst && !worst_stall_us.compare_exchange_weak(worst, us)) {
        }
    }

    void fail(const std::string& what) {
        std::lock_guard lock(mutex_);
        if (failures_.size() < 20) failures_.push_back(what);
        failed_++;
    }
    std::vector<std::string> failures() const {
        std::lock_guard lock(mutex_);
        return failures_;
    }
    bool failed() const { return failed_ > 0; }

    nlohmann::json json() const {
        return {{"bytes_verified", bytes_verified.load()},
                {"wrong_bytes", wrong_bytes.load()},
                {"sigbus", sigbus.load()},
                {"stale_reads", stale_reads.load()},
                {"readers", readers.load()},
                {"readers_killed", readers_killed.load()},
                {"readers_stopped", readers_stopped.load()},
                {"forks", forks.load()},
                {"maps_served", maps_served.load()},
                {"maps_by_kernel", maps_by_kernel.load()},
                {"reattached", reattached.load()},
                {"kills_survived", kills_survived.load()},
                {"stops_survived", stops_survived.load()},
                {"restarts", restarts.load()},
                {"crashes", crashes.load()},
                {"over_budget", over_budget.load()},
                {"models_replaced", models_replaced.load()},
                {"models_changed", models_changed.load()},
                {"models_vanished", models_vanished.load()},
                {"policies_loaded", policies_loaded.load()},
                {"policies_refused", policies_refused.load()},
                {"policies_ejected", policies_ejected.load()},
                {"orders", orders.load()},
                {"lost_wakeups", lost_wakeups.load()},
                {"worst_stall_ms", static_cast<double>(worst_stall_us.load()) / 1000}};
    }

  private:
    mutable std::mutex mutex_;
    std::vector<std::string> failures_;
    std::atomic<uint64_t> failed_{0};
};

}  // namespace tierd::chaos
