// readiness.h - what the engine's thread waits for: descriptors that have something to be read, by what they are for.
//
// Owns:      an epoll descriptor; not the descriptors that it watches.
// Invariant: a descriptor that was removed is not told of again, though another process may hold the same open file.
// Callers:   the engine's thread only.
// Fails:     make() and add() with the errno of epoll_create1(2) and epoll_ctl(2).
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "lib/base/fd.h"

namespace tierd {

class Readiness {
  public:
    static Result<Readiness> make();

    // wait() tells `what` from now on while `fd` is readable.
    Result<void> add(int fd, uint64_t what);
    void remove(int fd);

    // Waits until something is readable, at most `timeout_ms`. What it returns is valid until the next call.
    std::span<const uint64_t> wait(int timeout_ms);

  private:
    explicit Readiness(Fd epoll) : epoll_(std::move(epoll)) {}

    Fd epoll_;
    std::array<uint64_t, 64> ready_{};
};

}  // namespace tierd
