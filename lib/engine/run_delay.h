// run_delay.h - how long the calling thread waits for a processor after it was woken.
//
// Owns:      the descriptor of its file in /proc.
// Callers:   the thread that made it.
// Fails:     with 0, where the kernel keeps no such figures.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstdio>

#include "lib/base/fd.h"

namespace tierd {

class RunDelay {
  public:
    // The mean since the last call.
    uint64_t step_ns() {
        if (!file_) file_ = Fd(::open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC));
        std::array<char, 96> text{};
        if (!file_ || ::pread(file_.get(), text.data(), text.size() - 1, 0) <= 0) return 0;
        unsigned long running_ns = 0, delayed_ns = 0, times = 0;
        if (std::sscanf(text.data(), "%lu %lu %lu", &running_ns, &delayed_ns, &times) != 3) return 0;
        uint64_t more_ns = delayed_ns - delayed_ns_, more = times - times_;
        delayed_ns_ = delayed_ns;
        times_ = times;
        return more == 0 ? 0 : more_ns / more;
    }

  private:
    Fd file_;
    uint64_t delayed_ns_ = 0;
    uint64_t times_ = 0;
};

}  // namespace tierd
