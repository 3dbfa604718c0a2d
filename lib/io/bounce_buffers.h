// bounce_buffers.h - intermediate memory for reads into arenas of small pages.
//
// Owns:      the buffers, one huge page each if the system has them.
// Invariant: a buffer has one user at a time. At most kBounceBuffers are ever touched, the most recently used first,
//            so an idle disk costs little memory.
// Callers:   the engine's thread only.
//
// Reading straight into fresh 4 KiB pages costs a fault and a segment of the disk's request for each of them.
// Measured for 1 MiB on the development machine: 1.4 ms, 0.8 ms of them on a processor; through a buffer of one huge
// page and a write(2) into the arena 1.0 ms and 0.5 ms.
#pragma once

#include <vector>

#include "lib/base/fd.h"

namespace tierd {

inline constexpr uint32_t kBounceBuffers = 16;

class BounceBuffers {
  public:
    // `buffer_bytes` is a power of two. Errors: errno of mmap(2).
    static Result<BounceBuffers> make(uint64_t buffer_bytes);

    // Null when all are taken.
    char* take();
    void give_back(char* buffer);

  private:
    BounceBuffers(Mapping mapping, std::vector<char*> free)
        : mapping_(std::move(mapping)), free_(std::move(free)) {}

    Mapping mapping_;
    std::vector<char*> free_;  // the next one last
};

}  // namespace tierd
