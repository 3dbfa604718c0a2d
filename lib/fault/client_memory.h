// client_memory.h - gives the kernel advice about a client's address space, without the client's help.
//
// Owns:      a pidfd of the process, so it never addresses another process that got the same number.
// Invariant: nothing here changes what the client reads.
// Callers:   map_huge() from one thread at a time.
// Fails:     as a value; EPERM if tierd lacks the right (another user's process without CAP_SYS_PTRACE, or no
//            CAP_SYS_NICE), and then always.
// Source:    process_madvise(2), madvise(2) on MADV_COLLAPSE (Linux 6.1).
#pragma once

#include <sys/types.h>

#include <cstdint>

#include "lib/base/fd.h"

namespace tierd {

class ClientMemory {
  public:
    // Errors: errno of pidfd_open(2).
    static Result<ClientMemory> of(pid_t pid);

    // Maps each 2 MiB of the range by one entry of the page table instead of 512, where one huge page holds
    // it. Pages that are not mapped there yet become so: the range's memory must be whole, and stay so until
    // this returns. 35 µs a huge page. Errors: errno of the first that could not; the rest is then left as it
    // is.
    Result<void> map_huge(uint64_t address, uint64_t length_bytes) const;

  private:
    explicit ClientMemory(Fd process) : process_(std::move(process)) {}
    Fd process_;
};

}  // namespace tierd
