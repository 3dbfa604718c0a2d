// clock.h - the two clocks tierd uses. Any thread; never fails.
#pragma once

#include <cstdint>

namespace tierd {

inline constexpr uint64_t kNsPerMs = 1'000'000;
inline constexpr uint64_t kNsPerSecond = 1'000'000'000;

uint64_t
monotonic_ns() noexcept;  // CLOCK_MONOTONIC: intervals, deadlines, heartbeats (shared between processes)
uint64_t thread_cpu_ns() noexcept;  // CLOCK_THREAD_CPUTIME_ID: what the calling thread has cost
uint64_t realtime_ns() noexcept;    // CLOCK_REALTIME: only what is written to disk for people

}  // namespace tierd
