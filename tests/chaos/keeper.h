// keeper.h - the tierd of a chaos run: started in one of many ways, killed, stopped, ended and started again.
//
// Owns:      the running daemon.
// Invariant: a tierd that ends without having been told to is a crash, and fails the run.
// Callers:   keep_killing() on a thread of its own; daemon() from any thread.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>

#include "tests/chaos/models.h"
#include "tests/chaos/tally.h"

namespace tierd::chaos {

class Keeper {
  public:
    Keeper(const itest::WorkDir& dir, Tally& tally, uint64_t seed);

    // Lets it live for a while and ends it, again and again, until `end`; the last one ends in order.
    void keep_killing(const std::atomic<bool>& end);
    // Null while none runs. Requests to one that is just being killed fail, as they do for administrators.
    std::shared_ptr<itest::Daemon> daemon() const;
    // The greatest budget that an administrator may set.
    static constexpr uint64_t kMostBudgetBytes = uint64_t{40} << 20;
    static constexpr uint64_t kTierBytes = uint64_t{16} << 20;  // of the second memory tier

  private:
    void start();
    void live_a_while(const std::atomic<bool>& end);
    void stop_and_go_on();
    void end_it();
    void check_exit(int status, bool was_killed);
    void note_budget(uint64_t peak_bytes);

    const itest::WorkDir& dir_;
    Tally& tally_;
    Dice dice_;
    mutable std::mutex mutex_;  // guards daemon_
    std::shared_ptr<itest::Daemon> daemon_;
};

}  // namespace tierd::chaos
