// private_pages.h - falls back in ranges that the client may have written: its private pages stay, the file is mapped
// between them.
//
// A page is private if the pagemap shows it as present, or truly swapped out, and not as a page of a file. The range
// is write-protected before the pagemap is read, so no thread makes another private page meanwhile. The pagemap is
// also read once before, since only privileged processes can distinguish a swapped page from the marks of the
// protection on absent pages.
//
// Invariant: every page of a `private_pages` region is private, so the arena behind it is never read again.
// Callers:   any thread, with the table lock held.
// Fails:     0 or a negative errno; a part that could not be replaced is a region again.
#pragma once

#include <stdint.h>

#include "cuda_shim/host/region.h"

namespace tierd::shim {

// `region` has been taken out of the table. tierd must not map pages of it at the same time: it was informed
// of the unmap, has commanded the fall-back itself, or is gone.
long replace_writable(const Region& region);
// The same in a forked child, which has one thread and no userfaultfd.
long replace_writable_in_child(const Region& region);

// True when a page of [begin, end) is private, or when that is unknown. Needs no lock.
bool may_hold_private_pages(uint64_t begin, uint64_t end);

// The private pages in [begin, end) are dropped (MADV_DONTNEED): the file's bytes take their place.
long drop_private_pages(uint64_t begin, uint64_t end);
// The private pages in [begin, end) move into the kernel's mapping, so that no trace of an arena is left
// there.
long rebuild_private_pages(uint64_t begin, uint64_t end);

}  // namespace tierd::shim
