// run_delay.h - how long the calling thread waits for a processor after it was woken.
//
// Owns:      the descriptor of its file in /proc.
// Callers:   the thread that made it.
// Fails:     with 0, where the kernel keeps no such figures.
#pragma once

#include <cstdint>

#include "lib/base/fd.h"

namespace tierd {

class RunDelay {
  public:
    // The mean since the last call.
    uint64_t step_ns();

  private:
    Fd file_;
    uint64_t delayed_ns_ = 0;
    uint64_t times_ = 0;
};

}  // namespace tierd
