#include "lib/base/clock.h"

#include <time.h>

namespace tierd {

static uint64_t read_clock(clockid_t id) noexcept {
    timespec t{};
    ::clock_gettime(id, &t);
    return static_cast<uint64_t>(t.tv_sec) * kNsPerSecond + static_cast<uint64_t>(t.tv_nsec);
}

uint64_t monotonic_ns() noexcept {
    return read_clock(CLOCK_MONOTONIC);
}
uint64_t thread_cpu_ns() noexcept {
    return read_clock(CLOCK_THREAD_CPUTIME_ID);
}
uint64_t realtime_ns() noexcept {
    return read_clock(CLOCK_REALTIME);
}

}  // namespace tierd
