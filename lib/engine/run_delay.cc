// run_delay.cc - how long a thread waits for a processor, as the kernel's scheduler counts it: proc(5), schedstat.
#include "lib/engine/run_delay.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cstdio>

namespace tierd {

uint64_t RunDelay::step_ns() {
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

}  // namespace tierd
