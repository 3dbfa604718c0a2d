// period.h - adapts the sampling period so that sampling costs no more than its limit.
//
// Owns:      the period, and the measured cost of a record.
// Invariant: the period stays within its bounds and changes at most fourfold per step, so one odd measurement can't
//            stop a source.
// Callers:   one thread.
#pragma once

#include <cstdint>
#include <functional>

namespace tierd {

class PeriodControl {
  public:
    struct Limits {
        uint64_t least = 64;
        uint64_t most = 1u << 24;
        uint64_t multiple_of = 1;     // IBS takes multiples of 16
        double share_of_core = 0.01;  // what all of it may cost
    };
    PeriodControl(uint64_t start, Limits limits);

    // In the last `wall_ns`, `records` came; reading them took `reading_ns` of this thread's CPU time, and each
    // costs the sampled thread `interrupt_ns`, as measure_record_cost_ns() found. Returns the period to use now.
    uint64_t step(uint64_t wall_ns, uint64_t records, uint64_t reading_ns, uint64_t interrupt_ns);

    uint64_t period() const { return period_; }
    double cost_share() const { return cost_share_; }  // of one core, in the last step

  private:
    Limits limits_;
    uint64_t period_;
    double cost_share_ = 0;
};

// What one record costs the thread that is sampled: the CPU time of `work` while the event records it, less that
// of the same work while it doesn't, by the records. `set_recording` switches, `records` counts those so far. The
// least of a few rounds; 0 when no record came.
uint64_t measure_record_cost_ns(const std::function<void()>& work,
                                const std::function<void(bool)>& set_recording,
                                const std::function<uint64_t()>& records);

}  // namespace tierd
