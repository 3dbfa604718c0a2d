// private_pages.h - falling back where the client may have written: its own pages stay, the file comes between
// them.
//
// A page is the client's own when the pagemap says that it is present, or truly swapped out, and not a file's
// page. Before that is asked, the range is write-protected, so nobody makes another page his own in the
// meantime; and it is asked once before, since the kernel tells a swapped page from the protection's own marks on absent
// ones only to privileged processes.
//
// Invariant: pages that are left as `private_pages` regions are all the client's, so the arena behind them is
//            never read again.
// Callers:   any thread, with the table lock held.
// Fails:     0 or a negative errno; what could not be replaced is a region again.
#pragma once

#include <stdint.h>

#include "cuda_shim/host/region.h"

namespace tierd::shim {

// `region` has been taken out of the table. tierd must not map pages of it at the same time: it has been told
// of the unmap, has ordered the fall-back itself, or is gone.
long replace_writable(const Region& region);
// The same in a forked child, which has one thread and no userfaultfd.
long replace_writable_in_child(const Region& region);

// True when a page of [begin, end) is the client's own, or when nobody can say. Needs no lock.
bool may_hold_private_pages(uint64_t begin, uint64_t end);

// The client's own pages in [begin, end) are given up (MADV_DONTNEED): the file's bytes take their place.
long drop_private_pages(uint64_t begin, uint64_t end);
// The client's own pages in [begin, end) move into the kernel's mapping, so that no trace of an arena is left
// there.
long rebuild_private_pages(uint64_t begin, uint64_t end);

}  // namespace tierd::shim
