// graph.h - graphs: nodes that hold an Operation each and the nodes that they come after; and their capture from streams.
//
// Owns:      the nodes of a graph; an executable graph owns a copy, in an order that respects every edge.
// Invariant: edges lead from older to newer nodes or were checked, so there is no cycle.
// Callers:   any thread, but as documented one thread at a time for one graph. A launch runs its nodes one after the
//            other in that order, which is one of the orders that a GPU may choose.
#pragma once

#include <cuda.h>

#include <map>
#include <memory>
#include <vector>

#include "tests/simcuda/driver/operation.h"

namespace simcuda {

struct Node {
    CUgraph graph = nullptr;
    Operation operation = EmptyOp{};
    std::vector<CUgraphNode> after;
    std::vector<void*>
        param_pointers;  // what cuGraphKernelNodeGetParams hands out; points into the operation
};

struct Graph {
    CUgraph handle = nullptr;
    std::map<CUgraphNode, std::shared_ptr<Node>> nodes;  // handles grow, so this is the order of creation
};

struct Step {
    CUgraphNode node = nullptr;  // of the graph that the step was made from
    Operation operation;
    bool enabled = true;
};
// What one launch runs, one after the other. Never changed once a launch may have it.
struct Steps {
    std::vector<Step> all;
};

struct GraphExec {
    CUcontext context = nullptr;
    unsigned long long flags = 0;
    std::mutex mutex;  // the fields below
    std::shared_ptr<Steps> steps;
    MarkPtr last_launch;  // launches of one executable graph don't overlap
};

// A stream, and those that joined it through events, being recorded.
struct Capture {
    CUgraph handle = nullptr;
    std::shared_ptr<Graph> graph;
    const Stream* origin = nullptr;
    uint64_t id = 0;
    CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_GLOBAL;
    bool invalidated = false;
};

// Errors: CUDA_ERROR_INVALID_VALUE where a dependency is no node of this graph.
CUresult add_node(Driver& d, Graph& graph, Operation operation, std::vector<CUgraphNode> after,
                  CUgraphNode* out);

// The graph's nodes, each after all that it depends on. nullopt: there is a cycle.
std::optional<std::vector<Step>> in_order(const Graph& graph);

}  // namespace simcuda
