// userfaultfd.h - a client's userfaultfd, as tierd uses it: read faults, map what is resident, wake.
//
// Owns:      the descriptor. The client made it, holds the same open file, and registered its ranges itself.
// Invariant: whatever the client does with its copy, a call here can't block or harm anyone but the client.
// Callers:   the engine's thread only.
// Source:    userfaultfd(2), ioctl_userfaultfd(2), Documentation/admin-guide/mm/userfaultfd.rst.
#pragma once

#include <cstdint>
#include <span>

#include "lib/base/fd.h"

namespace tierd {

struct Fault {
    uint64_t address = 0;        // as it was touched; not rounded to a page
    uint32_t thread = 0;         // tid in the client, if the kernel reports it; else 0
    bool minor = false;          // the page is in the arena, only not mapped there
    bool write_protect = false;  // a writer waits for a fall-back under way; not ours to answer
    bool write = false;
};

enum class Mapped : uint8_t {
    done,        // every page of the range is mapped, and the waiters were woken
    gone,        // the client no longer has that range registered, or is exiting
    not_filled,  // a page of the range is not in the arena (evicted meanwhile)
};

class Userfaultfd {
  public:
    // Takes a descriptor that a client sent. Errors: bad_input where it is no userfaultfd.
    static Result<Userfaultfd> adopt(Fd fd);

    int fd() const { return fd_.get(); }

    // Reads what waits, without blocking. Returns the filled part of `into`; empty: nothing waits, or the
    // client is gone.
    std::span<Fault> read(std::span<Fault> into);

    // UFFDIO_CONTINUE over the range, going on past pages that are mapped already; wakes the waiters.
    // Page-aligned. `touched` is an address in the range that is known to have faulted: when its page turns
    // out to be mapped, so is the rest.
    Mapped continue_range(uint64_t address, uint64_t length_bytes, uint64_t touched);

    // The same of one page, by one call: for a page that was taken out of an extent that is mapped otherwise.
    Mapped continue_page(uint64_t address);

    // Wakes waiting threads in the range; they fault again. Harmless if none waits.
    void wake(uint64_t address, uint64_t length_bytes);

  private:
    bool is_mapped_but_for(uint64_t touched, uint64_t end);
    explicit Userfaultfd(Fd fd) : fd_(std::move(fd)) {}
    Fd fd_;
};

}  // namespace tierd
