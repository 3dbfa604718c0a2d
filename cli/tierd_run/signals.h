// signals.h - the signals that tierd-run receives for its command, as a descriptor to poll.
//
// Owns:      the signalfd, and the process's signal mask from block() on.
// Invariant: SIGINT, SIGTERM, SIGHUP and SIGQUIT never end tierd-run itself: each is read here, so the daemon
//            and its folder are always cleaned up. A child gets back the mask that tierd-run was started
//            with.
// Callers:   the only thread. take() does not block.
// Fails:     block() with the errno of signalfd(2).
#pragma once

#include <signal.h>

#include <optional>

#include "lib/base/fd.h"

namespace tierd::run {

struct TakenSignal {
    int number = 0;
    bool from_terminal =
        false;  // the kernel gave it to the whole foreground group, so the command has it already
};

class Signals {
  public:
    static Result<Signals> block();

    // The next signal that came, if any did.
    std::optional<TakenSignal> take() const;
    int fd() const { return fd_.get(); }
    // In a child between fork and exec: async-signal-safe.
    void restore_mask() const { ::sigprocmask(SIG_SETMASK, &original_, nullptr); }

  private:
    Fd fd_;
    sigset_t original_{};
};

}  // namespace tierd::run
