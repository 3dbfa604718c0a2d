// fall_back.h - replaces an arena's mapping by the kernel's own mapping of the weight file.
//
// Invariant: a byte that the client wrote stays; every other byte is the file's afterwards, or gives the error that
//            the kernel's mapping gives. When the call returns, no thread waits on a fault in the range.
// Callers:   any thread, with the table lock held. Weights that may be absent are not touched.
// Fails:     0, or the first negative errno; a part that could not be replaced stays a region and is tried again next
//            time.
#pragma once

#include <stdint.h>

#include "cuda_shim/host/region.h"

namespace tierd::shim {

// Everything in [begin, end) that maps an arena; whole huge pages of hugetlb arenas.
long fall_back_range(uint64_t begin, uint64_t end);
// Every mapped byte of tierd's file `number` in [offset, offset + length) of the file.
long fall_back_file(uint64_t number, uint64_t offset_bytes, uint64_t length_bytes);
long fall_back_everything();

// Makes every range that could not be replaced fault instead: once the session is closed its arenas would
// read as zeros.
void close_what_is_left();

// After fork(), in the child and before anything else runs there: regions that can't be written are holes
// (MADV_DONTFORK), the others were inherited without their userfaultfd.
void fall_back_in_child();

// Maps the weight file over [begin, end) of a region, with the protection and the kind of mapping that the
// engine asked for.
long map_file_over(const Region& region, uint64_t begin, uint64_t end);

}  // namespace tierd::shim
