// migration_throttle.h - how fast memory may be moved: the administrator's limit, lowered while moves delay readers.
//
// Owns:      the readers' waits with and without moves, and the rate that follows from them.
// Invariant: limit / kSlowest <= rate <= limit; without a limit (0) there is no throttle. Waits are compared only
//            with waits of their own kind, and the rate falls only when the difference exceeds chance.
// Callers:   one thread, or under the caller's lock; the caller passes the time.
//
// Each wait that overlaps a move is compared with the mean wait of that kind without one. If the mean ratio exceeds
// kMaxSlowdown by more than twice its standard error, the rate is halved; otherwise it grows by a part of the limit (AIMD,
// as in congestion control). Nothing moves between two batches, so both kinds of waits are observed side by side.
//
// Readers of mapped memory never wait for tierd, so they show no cost of moves: processor time, and a stall while
// their page is copied. That cost is at most the time that moves take. So moves take at most a twenty-fifth of the
// time: where memory copies slowly, a pause follows each batch.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace tierd {

// What a reader waited for.
enum class WaitKind : uint8_t {
    minor,    // a resident extent to be mapped, by the engine's thread
    hinted,   // the same, by another thread: its touch was made to be seen
    missing,  // bytes from the disk
};
inline constexpr size_t kWaitKinds = 3;

class MigrationThrottle {
  public:
    static constexpr double kMaxSlowdown = 1.05;
    static constexpr uint64_t kSlowest = 16;  // a drain is to end, however slow its readers are
    static constexpr uint64_t kUpdateNs = 100'000'000;
    static constexpr uint64_t kPauseFactor = 24;      // times as long as a batch took
    static constexpr uint64_t kSlowestByPause = 256;  // as kSlowest, where rests alone are what makes it slow
    static constexpr uint32_t kEnough = 32;           // waits with moves, before they say anything

    // 0: no limit.
    explicit MigrationThrottle(uint64_t limit_bytes_per_s);
    void set_limit(uint64_t limit_bytes_per_s);

    // Pages begin to move, have moved.
    void begin_batch() { moving_ = true; }
    void end_batch(uint64_t now_ns);
    // A reader waited. In the order of their ends.
    void reader_waited(WaitKind kind, uint64_t begun_ns, uint64_t ended_ns);
    // To be called now and then while there is something to move.
    void update(uint64_t now_ns);

    uint64_t bytes_per_s() const { return throttle_; }
    // What one batch may move beyond its first extent: as much as the pace allows in 1/32 s, so that at a low pace
    // moves come evenly and not by lumps.
    uint64_t batch_bytes() const;
    // For how long nothing is to move after a batch of `bytes` that took `took_ns`. Without a limit: not at all.
    uint64_t pause_ns(uint64_t bytes, uint64_t took_ns) const;
    // By which factor waits grew with moves when that was judged last; 0: not known.
    double slowdown() const { return slowdown_; }

  private:
    struct Mean {
        double value = 0;
        uint32_t count = 0;
        void add(double sample);
    };
    void faster(uint64_t by_steps);

    uint64_t limit_;
    uint64_t throttle_;
    bool moving_ = false;
    uint64_t moved_ns_ = 0;  // the end of the last batch
    std::array<Mean, kWaitKinds> baseline_{};
    // Ratios of waits with moves, since the last judgement that they allowed.
    uint32_t ratios_ = 0;
    double ratio_sum_ = 0;
    double ratio_squares_ = 0;
    uint64_t ratios_since_ns_ = 0;
    uint64_t updated_ns_ = 0;
    double slowdown_ = 0;
};

}  // namespace tierd
