// gpu_clock.h - the GPU's time: the machine's, or a virtual one that modelled work moves on without anybody waiting.
//
// In virtual time a stream's work starts when its predecessors have ended or when the host submitted it, whichever is
// later, and ends after its modelled cost; a host that waits for it is moved on to its end. What is not modelled is free.
// Callers: any thread.
#pragma once

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <ctime>

#include "lib/base/clock.h"

namespace simcuda {

class GpuClock {
  public:
    explicit GpuClock(bool is_virtual) : virtual_(is_virtual) {}

    uint64_t now_ns() const { return virtual_ ? host_ns_.load() : tierd::monotonic_ns(); }

    // When work can start that was ready at `ready_ns`: the machine's time has gone on meanwhile, virtual time has not.
    uint64_t start_ns(uint64_t ready_ns) const { return virtual_ ? ready_ns : std::max(ready_ns, now_ns()); }

    // The worker's side: returns when work that ends at `end_ns` has ended. Real sleeps end late by some 60 us, so
    // shorter ones are left out; deadlines are absolute, so nothing is lost by that.
    void work_until(uint64_t end_ns) const {
        constexpr uint64_t kSleepSlackNs = 60'000;
        if (virtual_ || end_ns <= tierd::monotonic_ns() + kSleepSlackNs) return;
        timespec until = {};
        until.tv_sec = static_cast<time_t>(end_ns / tierd::kNsPerSecond);
        until.tv_nsec = static_cast<long>(end_ns % tierd::kNsPerSecond);
        while (::clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, nullptr) == EINTR) {
        }
    }

    // The host's side: it has waited for work that ended at `end_ns`.
    void host_waited_for(uint64_t end_ns) {
        if (!virtual_) return;
        uint64_t was = host_ns_.load();
        while (was < end_ns && !host_ns_.compare_exchange_weak(was, end_ns)) {
        }
    }

  private:
    const bool virtual_;
    std::atomic<uint64_t> host_ns_ = 0;
};

}  // namespace simcuda
