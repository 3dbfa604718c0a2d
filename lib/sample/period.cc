#include "lib/sample/period.h"

#include <algorithm>
#include <ctime>

#include "lib/base/clock.h"

namespace tierd {

static uint64_t round_to(uint64_t period, const PeriodControl::Limits& limits) {
    period = std::clamp(period, limits.least, limits.most);
    return std::max(limits.multiple_of, period / limits.multiple_of * limits.multiple_of);
}

PeriodControl::PeriodControl(uint64_t start, Limits limits)
    : limits_(limits), period_(round_to(start, limits)) {}

uint64_t PeriodControl::step(uint64_t wall_ns, uint64_t records, uint64_t reading_ns, uint64_t interrupt_ns) {
    if (wall_ns == 0) return period_;
    auto cost_ns = static_cast<double>(reading_ns + records * interrupt_ns);
    cost_share_ = cost_ns / static_cast<double>(wall_ns);
    double factor = std::clamp(cost_share_ / limits_.share_of_core, 0.25, 4.0);
    // Within a tenth it is right: each change of a period costs a call for every event.
    if (factor < 0.9 || factor > 1.1)
        period_ = round_to(static_cast<uint64_t>(static_cast<double>(period_) * factor), limits_);
    return period_;
}

static uint64_t cpu_ns(const std::function<void()>& work) {
    auto now = [] {
        timespec t{};
        ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
        return static_cast<uint64_t>(t.tv_sec) * kNsPerSecond + static_cast<uint64_t>(t.tv_nsec);
    };
    uint64_t begin = now();
    work();
    return now() - begin;
}

uint64_t measure_record_cost_ns(const std::function<void()>& work,
                                const std::function<void(bool)>& set_recording,
                                const std::function<uint64_t()>& records) {
    constexpr int kRounds = 5;
    uint64_t least_with = UINT64_MAX, least_without = UINT64_MAX, seen = 0;
    for (int round = 0; round < kRounds; round++) {
        set_recording(false);
        least_without = std::min(least_without, cpu_ns(work));
        uint64_t before = records();
        set_recording(true);
        least_with = std::min(least_with, cpu_ns(work));
        set_recording(false);
        seen = std::max(seen, records() - before);
    }
    if (seen == 0 || least_with <= least_without) return 0;
    return (least_with - least_without) / seen;
}

}  // namespace tierd
