// placement.h - where the bytes of a daemon's weights are, as three witnesses tell: the daemon's own table of extents,
// move_pages(2) page by page, and the kernel's numa_maps.
//
// Owns:      nothing; values.
// Invariant: looking maps the arena's pages into this process, and never makes one.
// Callers:   one thread, while nobody reads: what is on its way belongs to no place.
#pragma once

#include <string>

#include "tests/integration/harness.h"

namespace tierd::guest {

// What the witnesses disagree on, in words; empty when they agree: every page of every resident extent on a node of its tier,
// no page of any other, and the same sums in numa_maps, of which `reader` has no more mapped. Asks again for up to
// `seconds`, since what was under way ends meanwhile.
std::string placement_disagreement(const itest::Daemon& daemon, pid_t reader, unsigned seconds = 60);

// Moves every `step`th page that lies on a node to another one, behind the daemon's back, as the kernel does with memory that
// goes offline. Returns how many went.
size_t move_behind_its_back(const itest::Daemon& daemon, int from, int to, size_t step);

}  // namespace tierd::guest
