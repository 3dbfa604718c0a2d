// migrator.h - the thread that moves extents between memory tiers, within a limit of bytes per second, and slower while
// that delays readers (migration_throttle.h).
//
// Owns:      the thread and the queued moves.
// Invariant: every accepted move ends in exactly one call of `done`, also those still queued when the migrator is
//            destroyed (as cancelled); higher priorities begin first.
// Callers:   any thread. `done` is called on the migrator's thread and must not wait for it.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

#include "lib/migrate/migration_throttle.h"
#include "lib/migrate/move.h"
#include "lib/migrate/rate_limit.h"

namespace tierd {

class Migrator {
  public:
    using Done = std::function<void(const MoveResult&)>;

    // `bytes_per_s` 0: no limit, whatever it does to readers.
    Migrator(Done done, uint64_t bytes_per_s);
    ~Migrator();
    Migrator(const Migrator&) = delete;
    Migrator& operator=(const Migrator&) = delete;

    void move(MoveRequest request);
    // A move that has not begun is dropped; one under way is given up between attempts. Either ends in `done`, which
    // may still say that it moved.
    void cancel(uint64_t tag);
    void set_limit(uint64_t bytes_per_s);

    // A reader waited from then until now.
    void reader_waited(WaitKind kind, uint64_t begun_ns);
    MigrationThrottle throttle();  // as it is now

  private:
    using Flag = std::shared_ptr<std::atomic<bool>>;
    struct Waiting {
        MoveRequest request;
        Flag cancelled;
    };

    void run();
    std::vector<Waiting> take_batch(std::unique_lock<std::mutex>& lock);
    void carry_out(std::vector<Waiting> batch);
    void simulate_move(const Waiting& one);

    const Done done_;
    std::mutex mutex_;  // guards what follows; never held while pages move
    std::condition_variable wake_;
    std::map<uint32_t, std::deque<Waiting>, std::greater<>> waiting_;  // by priority
    std::map<uint64_t, Flag> flags_;                                   // of moves that have not ended
    MigrationThrottle throttle_;
    RateLimit limit_;  // follows pace_
    bool stopping_ = false;
    std::thread thread_;  // last: it uses everything above
};

}  // namespace tierd
