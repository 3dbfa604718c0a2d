// graphs.h - what the launches of executable graphs reach.
//
// Owns:      one row for each executable graph that was seen: the addresses that its nodes name.
// Invariant: a graph without a row, or with nodes that tell nothing, reaches everything.
// Callers:   learn_graph(), forget_graph(): the engine's threads, without our locks; GraphTable: with the GPU's lock
//            held.
// Fails:     a full table makes graphs reach everything.
#pragma once

#include "cuda_shim/cuda/access_set.h"

namespace tierd::shim::cuda {

class GraphTable {
  public:
    static constexpr uint32_t kGraphs = 1024;
    static constexpr uint32_t kAddresses = 254;

    void learn(CUgraphExec exec, const ReservedRange& range, const AccessSet& access);
    void forget(CUgraphExec exec);
    // Adds what a launch of `exec` reaches.
    void add_access(CUgraphExec exec, const ReservedRange& range, AccessSet& access) const;
    void clear() { count_ = 0; }

  private:
    struct Row {
        CUgraphExec exec;
        uint32_t count;
        uint64_t addresses[kAddresses];  // of allocations, which may come and go
    };
    Row* rows_ = nullptr;
    uint32_t count_ = 0;
};

void learn_graph(CUgraphExec exec, CUgraph graph);
void forget_graph(CUgraphExec exec);

}  // namespace tierd::shim::cuda
