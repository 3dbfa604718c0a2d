// access_set.h - what a call can use of the elastic memory, as far as its arguments tell.
//
// Owns:      nothing.
// Invariant: an address stands for its whole allocation: a kernel may use what is before and behind it. What can't be
//            told, or is too much for the list, is everything.
// Callers:   any thread, with the GPU's lock held.
#pragma once

#include "cuda_shim/cuda/driver.h"
#include "cuda_shim/cuda/reserved_range.h"

namespace tierd::shim::cuda {

struct AccessSet {
    static constexpr uint32_t kParts = 256;
    struct Part {
        uint32_t allocation;
        uint32_t first;  // chunk
        uint32_t end;
    };
    Part parts[kParts];
    uint32_t count = 0;
    bool everything = false;

    AccessSet() {}  // leaves the parts as they are: most calls name one or two
    bool empty() const { return count == 0 && !everything; }
    bool holds(uint32_t allocation, uint32_t chunk) const;

    void add(uint32_t allocation, uint32_t first, uint32_t end);
    void add_address(const ReservedRange& range, uint64_t address);
    // These bytes and nothing around them.
    void add_range(const ReservedRange& range, uint64_t address, uint64_t length_bytes);
    // Every address among the words of a structure or a parameter.
    void add_words(const ReservedRange& range, const void* bytes, size_t length);
    // What a launch's parameters name. A function that the driver does not describe reaches everything.
    void add_parameters(const ReservedRange& range, CUfunction function, void** parameters, void** extra);
};

}  // namespace tierd::shim::cuda
