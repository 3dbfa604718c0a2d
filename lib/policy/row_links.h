// row_links.h - which extent follows which: the links in each row for policies without lists of their own.
//
// Owns:      nothing; it fills `next` and `sibling` of one model's rows.
// Invariant: both are rows of the same model; siblings form rings; `next` leads from each extent of the order to the
//            following one, and the last back to the first.
// Callers:   the thread that fills the table: the engine's thread, or a replay. Pure. O(n log n).
// Fails:     never; indices in `order` that are no extent of the model are skipped.
#pragma once

#include <cstdint>
#include <span>

#include "bpf/tierd_policy.h"

namespace tierd {

// `order`: indices of extents in the order of a pass. Extents that it leaves out, and experts, which come as the router
// says, have themselves as `next`.
void link_rows(std::span<tierd_extent> rows, uint32_t first, uint32_t count, std::span<const uint32_t> order);

}  // namespace tierd
