// mailbox.h - how other threads reach the engine's thread: closures in a queue and an eventfd that wakes it.
//
// Owns:      the queue.
// Invariant: every accepted closure runs exactly once, in order.
// Callers:   post() and close() from any thread, take() from the engine's.
#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <utility>
#include <vector>

#include "lib/base/fd.h"

namespace tierd {

class Core;

class Mailbox {
  public:
    using Closure = std::function<void(Core&)>;

    explicit Mailbox(Fd eventfd) : eventfd_(std::move(eventfd)) {}

    // False after close(): the closure will never run.
    bool post(Closure closure);
    std::vector<Closure> take();
    void close();
    int poll_fd() const { return eventfd_.get(); }

  private:
    Fd eventfd_;
    std::mutex mutex_;  // guards the two below; never held while a closure runs
    std::vector<Closure> closures_;
    bool closed_ = false;
};

}  // namespace tierd
