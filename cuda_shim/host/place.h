// place.h - an engine's mmap() of a weight file, served from tierd's arena.
//
// Invariant: the engine's call never fails because of us: after any error, it gets the kernel's mapping.
// Callers:   any thread, without the shim's locks.
#pragma once

#include <stdint.h>

namespace tierd::shim {

// The arguments of mmap(2).
struct MapCall {
    uint64_t address;
    uint64_t length_bytes;
    int prot;
    int flags;
    int fd;
    uint64_t offset_bytes;
};

// True when the call was carried out here; `*result` is then what mmap(2) answers (an address or a negative
// errno). False: nothing was done, and the call is the kernel's.
bool map_weights(const MapCall& call, long* result);

}  // namespace tierd::shim
