#include "tests/simcuda/driver/graph.h"

#include <algorithm>
#include <set>

#include "tests/simcuda/driver/misuse.h"

namespace simcuda {

CUresult add_node(Driver& d, Graph& graph, Operation operation, std::vector<CUgraphNode> after,
                  CUgraphNode* out) {
    for (CUgraphNode node : after)
        if (!graph.nodes.contains(node))
            return misuse(CUDA_ERROR_INVALID_VALUE, "a dependency is no node of this graph");
    auto node = std::make_shared<Node>();
    node->graph = graph.handle;
    node->operation = std::move(operation);
    node->after = std::move(after);
    *out = d.nodes.add(node);
    graph.nodes.emplace(*out, std::move(node));
    return CUDA_SUCCESS;
}

std::optional<std::vector<Step>> in_order(const Graph& graph) {
    std::vector<Step> steps;
    std::set<CUgraphNode> placed;
    while (steps.size() < graph.nodes.size()) {
        size_t before = steps.size();
        for (const auto& [handle, node] : graph.nodes) {
            if (placed.contains(handle)) continue;
            bool ready = std::all_of(node->after.begin(), node->after.end(),
                                     [&](CUgraphNode other) { return placed.contains(other); });
            if (!ready) continue;
            placed.insert(handle);
            steps.push_back({handle, node->operation, true});
        }
        if (steps.size() == before) return std::nullopt;
    }
    return steps;
}

}  // namespace simcuda
