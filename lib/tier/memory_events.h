// memory_events.h - the kernel's events of memory that was plugged, unplugged, set online or offline.
//
// Owns:      a netlink socket of kernel events.
// Invariant: an event is only a hint that something changed; the machine is inspected again.
// Callers:   one thread. Never blocks.
// Fails:     open() with the errno of socket(2) or bind(2); a default-constructed object never has events.
#pragma once

#include "lib/base/fd.h"

namespace tierd {

class MemoryEvents {
  public:
    MemoryEvents() = default;
    static Result<MemoryEvents> open();

    int poll_fd() const { return socket_.get(); }  // -1: none
    // Takes all news; true when some of it was about memory, or news were lost.
    bool changed();

  private:
    explicit MemoryEvents(Fd socket) : socket_(std::move(socket)) {}
    Fd socket_;
};

}  // namespace tierd
