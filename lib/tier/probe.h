// probe.h - measures the memory of one node, for machines whose firmware reports no figures.
//
// Owns:      the memory it measures, for the time of the call.
// Callers:   any thread; takes about 40 ms of a processor and 32 MiB of the node.
// Fails:     empty if the node's memory can't be allocated, or turned out to be another node's.
#pragma once

#include <optional>

#include "lib/tier/tier_spec.h"

namespace tierd {

// Latency by a chase of pointers over 32 MiB in random order, one a cache line; bandwidth by one thread that sums it
// up. The bandwidth is what one processor gets, less than the node's whole: good for comparing nodes.
std::optional<NodeFigures> probe_node(int node);

}  // namespace tierd
