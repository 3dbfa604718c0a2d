// api_graph.cc - graphs that are built node by node, instantiated, changed and launched.
#define __CUDA_API_VERSION_INTERNAL
#include <cuda.h>

#include <algorithm>

#include "tests/simcuda/driver/entry.h"
#include "tests/simcuda/driver/graph.h"
#include "tests/simcuda/driver/launch.h"

using namespace simcuda;

namespace {

constexpr Default kLegacy = Default::legacy, kPerThread = Default::per_thread;

template <class Body>
CUresult with_graph(const char* name, CUgraph handle, Body body) {
    return entry(name, [&](Driver& d) -> CUresult {
        std::shared_ptr<Graph> graph = d.graphs.find(handle);
        if (!graph) return misuse(CUDA_ERROR_INVALID_VALUE, "no graph, or one that was destroyed");
        return body(d, *graph);
    });
}

template <class Op, class Body>
CUresult with_node(const char* name, CUgraphNode handle, Body body) {
    return entry(name, [&](Driver& d) -> CUresult {
        std::shared_ptr<Node> node = d.nodes.find(handle);
        if (!node) return misuse(CUDA_ERROR_INVALID_VALUE, "no node, or one that was destroyed");
        Op* op = std::get_if<Op>(&node->operation);
        if (!op)
            return misuse(CUDA_ERROR_INVALID_VALUE, "the node is a {} node", operation_name(node->operation));
        return body(d, *node, *op);
    });
}

struct After {
    const CUgraphNode* nodes;
    size_t count;
};

template <class Make>
CUresult add(const char* name, CUgraphNode* out, CUgraph graph, After after, Make make) {
    return with_graph(name, graph, [&](Driver& d, Graph& g) -> CUresult {
        Operation operation;
        if (CUresult bad = make(d, &operation); bad != CUDA_SUCCESS) return bad;
        return add_node(d, g, std::move(operation), {after.nodes, after.nodes + after.count}, out);
    });
}

template <class Params>
CUresult kernel_of(Driver& d, const Params& p, Operation* out) {
    KernelOp op;
    CUfunction function = p.func;
    if constexpr (requires { p.kern; })
        if (!function) function = reinterpret_cast<CUfunction>(p.kern);
    LaunchShape shape = {
        {p.gridDimX, p.gridDimY, p.gridDimZ}, {p.blockDimX, p.blockDimY, p.blockDimZ}, p.sharedMemBytes};
    if (CUresult bad = kernel_op(d, function, shape, p.kernelParams, p.extra, &op); bad != CUDA_SUCCESS)
        return bad;
    *out = std::move(op);
    return CUDA_SUCCESS;
}

CUresult copy_of(Driver& d, const CUDA_MEMCPY3D& p, Operation* out) {
    CopyOp op;
    if (!copy_op_of(p, &op)) return CUDA_ERROR_NOT_SUPPORTED;
    if (CUresult bad = check_copy(d, op); bad != CUDA_SUCCESS) return bad;
    *out = std::move(op);
    return CUDA_SUCCESS;
}

CUresult fill_of(Driver& d, const CUDA_MEMSET_NODE_PARAMS& p, Operation* out) {
    if (p.elementSize != 1 && p.elementSize != 2 && p.elementSize != 4)
        return misuse(CUDA_ERROR_INVALID_VALUE, "elements of {} bytes (1, 2 or 4)", p.elementSize);
    FillOp op;
    op.address = p.dst;
    op.pitch_bytes = p.pitch;
    op.value = p.value;
    op.element_bytes = p.elementSize;
    op.width = p.width;
    op.height = p.height;
    if (CUresult bad = check_fill(d, op); bad != CUDA_SUCCESS) return bad;
    *out = op;
    return CUDA_SUCCESS;
}

template <class Params>
void describe_kernel(Node& node, const KernelOp& op, Params* out) {
    *out = {};
    out->func = op.handle;
    out->gridDimX = op.grid[0];
    out->gridDimY = op.grid[1];
    out->gridDimZ = op.grid[2];
    out->blockDimX = op.block[0];
    out->blockDimY = op.block[1];
    out->blockDimZ = op.block[2];
    out->sharedMemBytes = op.shared_bytes;
    const simcuda_kernel& kernel = *op.function->kernel;
    node.param_pointers.clear();
    for (uint32_t i = 0; i < kernel.param_count; ++i)
        node.param_pointers.push_back(const_cast<std::byte*>(op.params.data()) +
                                      kernel.params[i].offset_bytes);
    out->kernelParams = node.param_pointers.data();
}

CUresult instantiate(CUgraphExec* out, CUgraph handle, unsigned long long flags) {
    return with_graph("cuGraphInstantiate", handle, [&](Driver& d, Graph& graph) -> CUresult {
        std::optional<std::vector<Step>> steps = in_order(graph);
        if (!steps) return misuse(CUDA_ERROR_INVALID_VALUE, "the graph has a cycle");
        auto exec = std::make_shared<GraphExec>();
        exec->context = context_stack().empty() ? nullptr : context_stack().back();
        exec->flags = flags;
        exec->steps = std::make_shared<Steps>(Steps{std::move(*steps)});
        *out = d.graph_execs.add(std::move(exec));
        return CUDA_SUCCESS;
    });
}

template <class Body>
CUresult with_exec(const char* name, CUgraphExec handle, Body body) {
    return entry(name, [&](Driver& d) -> CUresult {
        std::shared_ptr<GraphExec> exec = d.graph_execs.find(handle);
        if (!exec) return misuse(CUDA_ERROR_INVALID_VALUE, "no executable graph, or one that was destroyed");
        return body(d, *exec);
    });
}

// A launch under way keeps the steps that it has: a changed step goes into a copy of them.
template <class Change>
CUresult change_step(const char* name, CUgraphExec exec, CUgraphNode node, Change change) {
    return with_exec(name, exec, [&](Driver& d, GraphExec& e) -> CUresult {
        std::lock_guard lock(e.mutex);
        auto changed = std::make_shared<Steps>(*e.steps);
        auto it = std::find_if(changed->all.begin(), changed->all.end(),
                               [&](const Step& s) { return s.node == node; });
        if (it == changed->all.end())
            return misuse(CUDA_ERROR_INVALID_VALUE, "the node is not of this executable graph");
        if (CUresult bad = change(d, *it); bad != CUDA_SUCCESS) return bad;
        e.steps = std::move(changed);
        return CUDA_SUCCESS;
    });
}

CUresult launch(CUgraphExec handle, CUstream s, Default which) {
    return on_stream("cuGraphLaunch", s, which, [&](Driver& d, Context& c, Stream& stream) -> CUresult {
        std::shared_ptr<GraphExec> exec = d.graph_execs.find(handle);
        if (!exec) return misuse(CUDA_ERROR_INVALID_VALUE, "no executable graph, or one that was destroyed");
        std::lock_guard lock(exec->mutex);
        std::vector<MarkPtr> after;
        if (exec->last_launch) after.push_back(exec->last_launch);
        ++d.counters.graph_launches;
        return submit(d, c, stream, StepsOp{nullptr, exec->steps}, &exec->last_launch, std::move(after));
    });
}

CUresult update(CUgraphExec exec, CUgraph graph, CUgraphExecUpdateResultInfo* info) {
    return with_graph("cuGraphExecUpdate", graph, [&](Driver&, Graph& g) -> CUresult {
        std::optional<std::vector<Step>> fresh = in_order(g);
        return with_exec("cuGraphExecUpdate", exec, [&](Driver&, GraphExec& e) -> CUresult {
            std::lock_guard lock(e.mutex);
            bool same = fresh && fresh->size() == e.steps->all.size();
            for (size_t i = 0; same && i < fresh->size(); ++i)
                same = (*fresh)[i].operation.index() == e.steps->all[i].operation.index();
            if (info)
                *info = {same ? CU_GRAPH_EXEC_UPDATE_SUCCESS : CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED,
                         nullptr, nullptr};
            if (!same) return CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE;
            // The executable graph goes on being addressed by the nodes that it was made from.
            for (size_t i = 0; i < fresh->size(); ++i) (*fresh)[i].node = e.steps->all[i].node;
            e.steps = std::make_shared<Steps>(Steps{std::move(*fresh)});
            return CUDA_SUCCESS;
        });
    });
}

CUresult add_edges(CUgraph graph, const CUgraphNode* from, const CUgraphNode* to, size_t count) {
    return with_graph("cuGraphAddDependencies", graph, [&](Driver&, Graph& g) -> CUresult {
        for (size_t i = 0; i < count; ++i) {
            auto it = g.nodes.find(to[i]);
            if (it == g.nodes.end() || !g.nodes.contains(from[i]))
                return misuse(CUDA_ERROR_INVALID_VALUE, "an edge between nodes of another graph");
            it->second->after.push_back(from[i]);
        }
        return CUDA_SUCCESS;
    });
}

// The documented way to list: without an array the count, with one as many as fit.
template <class T>
void give_list(const std::vector<T>& all, T* out, size_t* count) {
    if (out) std::copy_n(all.begin(), std::min(*count, all.size()), out);
    *count = out ? std::min(*count, all.size()) : all.size();
}

CUresult list_nodes(CUgraph graph, CUgraphNode* out, size_t* count, bool roots_only) {
    return with_graph("cuGraphGetNodes", graph, [&](Driver&, Graph& g) {
        std::vector<CUgraphNode> all;
        for (const auto& [handle, node] : g.nodes)
            if (!roots_only || node->after.empty()) all.push_back(handle);
        give_list(all, out, count);
        return CUDA_SUCCESS;
    });
}

CUresult list_edges(CUgraph graph, CUgraphNode* from, CUgraphNode* to, size_t* count) {
    return with_graph("cuGraphGetEdges", graph, [&](Driver&, Graph& g) {
        std::vector<CUgraphNode> froms, tos;
        for (const auto& [handle, node] : g.nodes) {
            froms.insert(froms.end(), node->after.begin(), node->after.end());
            tos.insert(tos.end(), node->after.size(), handle);
        }
        size_t room = *count;
        give_list(froms, from, count);
        if (to) give_list(tos, to, &room);
        return CUDA_SUCCESS;
    });
}

CUresult list_dependencies(CUgraphNode handle, CUgraphNode* out, size_t* count) {
    return entry("cuGraphNodeGetDependencies", [&](Driver& d) -> CUresult {
        std::shared_ptr<Node> node = d.nodes.find(handle);
        if (!node) return misuse(CUDA_ERROR_INVALID_VALUE, "no node, or one that was destroyed");
        give_list(node->after, out, count);
        return CUDA_SUCCESS;
    });
}

CUgraphNodeType type_of(const Operation& operation) {
    constexpr CUgraphNodeType kTypes[] = {
        CU_GRAPH_NODE_TYPE_KERNEL,   CU_GRAPH_NODE_TYPE_MEMCPY,       CU_GRAPH_NODE_TYPE_MEMSET,
        CU_GRAPH_NODE_TYPE_HOST,     CU_GRAPH_NODE_TYPE_EVENT_RECORD, CU_GRAPH_NODE_TYPE_WAIT_EVENT,
        CU_GRAPH_NODE_TYPE_MEM_FREE, CU_GRAPH_NODE_TYPE_EMPTY,        CU_GRAPH_NODE_TYPE_EMPTY,
        CU_GRAPH_NODE_TYPE_GRAPH,
    };
    static_assert(std::size(kTypes) == std::variant_size_v<Operation>);
    return kTypes[operation.index()];
}

CUresult destroy_graph(CUgraph handle) {
    return with_graph("cuGraphDestroy", handle, [&](Driver& d, Graph& graph) {
        for (const auto& [node, object] : graph.nodes) d.nodes.remove(node);
        d.graphs.remove(handle);
        return CUDA_SUCCESS;
    });
}

}  // namespace

CUresult CUDAAPI cuGraphCreate(CUgraph* out, unsigned int flags) {
    return entry("cuGraphCreate", [&](Driver& d) -> CUresult {
        if (flags) return misuse(CUDA_ERROR_INVALID_VALUE, "flags must be 0, not {}", flags);
        auto graph = std::make_shared<Graph>();
        *out = d.graphs.add(graph);
        graph->handle = *out;
        return CUDA_SUCCESS;
    });
}
CUresult CUDAAPI cuGraphDestroy(CUgraph graph) {
    return destroy_graph(graph);
}
CUresult CUDAAPI cuGraphAddKernelNode(CUgraphNode* out, CUgraph graph, const CUgraphNode* after, size_t n,
                                      const CUDA_KERNEL_NODE_PARAMS_v1* p) {
    return add("cuGraphAddKernelNode", out, graph, {after, n},
               [&](Driver& d, Operation* op) { return kernel_of(d, *p, op); });
}
CUresult CUDAAPI cuGraphAddKernelNode_v2(CUgraphNode* out, CUgraph graph, const CUgraphNode* after, size_t n,
                                         const CUDA_KERNEL_NODE_PARAMS* p) {
    return add("cuGraphAddKernelNode", out, graph, {after, n},
               [&](Driver& d, Operation* op) { return kernel_of(d, *p, op); });
}
CUresult CUDAAPI cuGraphAddMemcpyNode(CUgraphNode* out, CUgraph graph, const CUgraphNode* after, size_t n,
                                      const CUDA_MEMCPY3D* p, CUcontext) {
    return add("cuGraphAddMemcpyNode", out, graph, {after, n},
               [&](Driver& d, Operation* op) { return copy_of(d, *p, op); });
}
CUresult CUDAAPI cuGraphAddMemsetNode(CUgraphNode* out, CUgraph graph, const CUgraphNode* after, size_t n,
                                      const CUDA_MEMSET_NODE_PARAMS* p, CUcontext) {
    return add("cuGraphAddMemsetNode", out, graph, {after, n},
               [&](Driver& d, Operation* op) { return fill_of(d, *p, op); });
}
CUresult CUDAAPI cuGraphAddHostNode(CUgraphNode* out, CUgraph graph, const CUgraphNode* after, size_t n,
                                    const CUDA_HOST_NODE_PARAMS* p) {
    return add("cuGraphAddHostNode", out, graph, {after, n}, [&](Driver&, Operation* op) {
        *op = HostOp{[fn = p->fn, data = p->userData] { fn(data); }, p->fn, p->userData};
        return CUDA_SUCCESS;
    });
}
CUresult CUDAAPI cuGraphAddEmptyNode(CUgraphNode* out, CUgraph graph, const CUgraphNode* after, size_t n) {
    return add("cuGraphAddEmptyNode", out, graph, {after, n}, [](Driver&, Operation* op) {
        *op = EmptyOp{};
        return CUDA_SUCCESS;
    });
}
CUresult CUDAAPI cuGraphAddChildGraphNode(CUgraphNode* out, CUgraph graph, const CUgraphNode* after, size_t n,
                                          CUgraph child) {
    return add("cuGraphAddChildGraphNode", out, graph, {after, n}, [&](Driver& d, Operation* op) -> CUresult {
        std::shared_ptr<Graph> found = d.graphs.find(child);
        std::optional<std::vector<Step>> steps = found ? in_order(*found) : std::nullopt;
        if (!steps) return misuse(CUDA_ERROR_INVALID_VALUE, "the child is no graph, or has a cycle");
        *op = StepsOp{child, std::make_shared<Steps>(Steps{std::move(*steps)})};
        return CUDA_SUCCESS;
    });
}
CUresult CUDAAPI cuGraphAddDependencies(CUgraph graph, const CUgraphNode* from, const CUgraphNode* to,
                                        size_t n) {
    return add_edges(graph, from, to, n);
}
CUresult CUDAAPI cuGraphAddDependencies_v2(CUgraph graph, const CUgraphNode* from, const CUgraphNode* to,
                                           const CUgraphEdgeData*, size_t n) {
    return add_edges(graph, from, to, n);
}
CUresult CUDAAPI cuGraphGetNodes(CUgraph graph, CUgraphNode* out, size_t* count) {
    return list_nodes(graph, out, count, false);
}
CUresult CUDAAPI cuGraphGetRootNodes(CUgraph graph, CUgraphNode* out, size_t* count) {
    return list_nodes(graph, out, count, true);
}
CUresult CUDAAPI cuGraphGetEdges(CUgraph graph, CUgraphNode* from, CUgraphNode* to, size_t* count) {
    return list_edges(graph, from, to, count);
}
CUresult CUDAAPI cuGraphGetEdges_v2(CUgraph graph, CUgraphNode* from, CUgraphNode* to, CUgraphEdgeData* data,
                                    size_t* count) {
    CUresult result = list_edges(graph, from, to, count);
    if (result == CUDA_SUCCESS && data) std::fill_n(data, *count, CUgraphEdgeData{});
    return result;
}
CUresult CUDAAPI cuGraphNodeGetDependencies(CUgraphNode node, CUgraphNode* out, size_t* count) {
    return list_dependencies(node, out, count);
}
CUresult CUDAAPI cuGraphNodeGetDependencies_v2(CUgraphNode node, CUgraphNode* out, CUgraphEdgeData* data,
                                               size_t* count) {
    CUresult result = list_dependencies(node, out, count);
    if (result == CUDA_SUCCESS && data) std::fill_n(data, *count, CUgraphEdgeData{});
    return result;
}
CUresult CUDAAPI cuGraphNodeGetType(CUgraphNode handle, CUgraphNodeType* type) {
    return entry("cuGraphNodeGetType", [&](Driver& d) -> CUresult {
        std::shared_ptr<Node> node = d.nodes.find(handle);
        if (!node) return misuse(CUDA_ERROR_INVALID_VALUE, "no node, or one that was destroyed");
        *type = type_of(node->operation);
        return CUDA_SUCCESS;
    });
}
CUresult CUDAAPI cuGraphKernelNodeGetParams(CUgraphNode node, CUDA_KERNEL_NODE_PARAMS_v1* out) {
    return with_node<KernelOp>("cuGraphKernelNodeGetParams", node, [&](Driver&, Node& n, KernelOp& op) {
        describe_kernel(n, op, out);
        return CUDA_SUCCESS;
    });
}
CUresult CUDAAPI cuGraphKernelNodeGetParams_v2(CUgraphNode node, CUDA_KERNEL_NODE_PARAMS* out) {
    return with_node<KernelOp>("cuGraphKernelNodeGetParams", node, [&](Driver&, Node& n, KernelOp& op) {
        describe_kernel(n, op, out);
        return CUDA_SUCCESS;
    });
}
CUresult CUDAAPI cuGraphKernelNodeSetParams(CUgraphNode node, const CUDA_KERNEL_NODE_PARAMS_v1* p) {
    return with_node<KernelOp>("cuGraphKernelNodeSetParams", node,
                               [&](Driver& d, Node& n, KernelOp&) { return kernel_of(d, *p, &n.operation); });
}
CUresult CUDAAPI cuGraphKernelNodeSetParams_v2(CUgraphNode node, const CUDA_KERNEL_NODE_PARAMS* p) {
    return with_node<KernelOp>("cuGraphKernelNodeSetParams", node,
                               [&](Driver& d, Node& n, KernelOp&) { return kernel_of(d, *p, &n.operation); });
}
CUresult CUDAAPI cuGraphMemcpyNodeGetParams(CUgraphNode node, CUDA_MEMCPY3D* out) {
    return with_node<CopyOp>("cuGraphMemcpyNodeGetParams", node, [&](Driver&, Node&, CopyOp& op) {
        return *out = description_of(op), CUDA_SUCCESS;
    });
}
CUresult CUDAAPI cuGraphMemcpyNodeSetParams(CUgraphNode node, const CUDA_MEMCPY3D* p) {
    return with_node<CopyOp>("cuGraphMemcpyNodeSetParams", node,
                             [&](Driver& d, Node& n, CopyOp&) { return copy_of(d, *p, &n.operation); });
}
CUresult CUDAAPI cuGraphMemsetNodeGetParams(CUgraphNode node, CUDA_MEMSET_NODE_PARAMS* out) {
    return with_node<FillOp>("cuGraphMemsetNodeGetParams", node, [&](Driver&, Node&, FillOp& op) {
        *out = {op.address, op.pitch_bytes, op.value, op.element_bytes, op.width, op.height};
        return CUDA_SUCCESS;
    });
}
CUresult CUDAAPI cuGraphHostNodeGetParams(CUgraphNode node, CUDA_HOST_NODE_PARAMS* out) {
    return with_node<HostOp>("cuGraphHostNodeGetParams", node, [&](Driver&, Node&, HostOp& op) {
        *out = {op.function, op.data};
        return CUDA_SUCCESS;
    });
}
CUresult CUDAAPI cuGraphChildGraphNodeGetGraph(CUgraphNode node, CUgraph* out) {
    return with_node<StepsOp>("cuGraphChildGraphNodeGetGraph", node,
                              [&](Driver&, Node&, StepsOp& op) { return *out = op.handle, CUDA_SUCCESS; });
}
CUresult CUDAAPI cuGraphInstantiateWithFlags(CUgraphExec* out, CUgraph graph, unsigned long long flags) {
    return instantiate(out, graph, flags);
}
CUresult CUDAAPI cuGraphInstantiateWithParams(CUgraphExec* out, CUgraph graph,
                                              CUDA_GRAPH_INSTANTIATE_PARAMS* p) {
    CUresult result = instantiate(out, graph, p->flags);
    p->result_out =
        result == CUDA_SUCCESS ? CUDA_GRAPH_INSTANTIATE_SUCCESS : CUDA_GRAPH_INSTANTIATE_INVALID_STRUCTURE;
    p->hErrNode_out = nullptr;
    return result;
}
CUresult CUDAAPI cuGraphInstantiateWithParams_ptsz(CUgraphExec* out, CUgraph graph,
                                                   CUDA_GRAPH_INSTANTIATE_PARAMS* p) {
    return cuGraphInstantiateWithParams(out, graph, p);
}
CUresult CUDAAPI cuGraphExecGetFlags(CUgraphExec exec, cuuint64_t* flags) {
    return with_exec("cuGraphExecGetFlags", exec,
                     [&](Driver&, GraphExec& e) { return *flags = e.flags, CUDA_SUCCESS; });
}
// As documented, an executable graph may be destroyed while it runs: the launch keeps its steps.
CUresult CUDAAPI cuGraphExecDestroy(CUgraphExec exec) {
    return with_exec("cuGraphExecDestroy", exec, [&](Driver& d, GraphExec&) {
        d.graph_execs.remove(exec);
        return CUDA_SUCCESS;
    });
}
CUresult CUDAAPI cuGraphLaunch(CUgraphExec exec, CUstream s) {
    return launch(exec, s, kLegacy);
}
CUresult CUDAAPI cuGraphLaunch_ptsz(CUgraphExec exec, CUstream s) {
    return launch(exec, s, kPerThread);
}
CUresult CUDAAPI cuGraphUpload(CUgraphExec exec, CUstream) {
    return with_exec("cuGraphUpload", exec, [](Driver&, GraphExec&) { return CUDA_SUCCESS; });
}
CUresult CUDAAPI cuGraphUpload_ptsz(CUgraphExec exec, CUstream s) {
    return cuGraphUpload(exec, s);
}
CUresult CUDAAPI cuGraphExecKernelNodeSetParams(CUgraphExec exec, CUgraphNode node,
                                                const CUDA_KERNEL_NODE_PARAMS_v1* p) {
    return change_step("cuGraphExecKernelNodeSetParams", exec, node,
                       [&](Driver& d, Step& step) { return kernel_of(d, *p, &step.operation); });
}
CUresult CUDAAPI cuGraphExecKernelNodeSetParams_v2(CUgraphExec exec, CUgraphNode node,
                                                   const CUDA_KERNEL_NODE_PARAMS* p) {
    return change_step("cuGraphExecKernelNodeSetParams", exec, node,
                       [&](Driver& d, Step& step) { return kernel_of(d, *p, &step.operation); });
}
CUresult CUDAAPI cuGraphExecMemcpyNodeSetParams(CUgraphExec exec, CUgraphNode node, const CUDA_MEMCPY3D* p,
                                                CUcontext) {
    return change_step("cuGraphExecMemcpyNodeSetParams", exec, node,
                       [&](Driver& d, Step& step) { return copy_of(d, *p, &step.operation); });
}
CUresult CUDAAPI cuGraphExecMemsetNodeSetParams(CUgraphExec exec, CUgraphNode node,
                                                const CUDA_MEMSET_NODE_PARAMS* p, CUcontext) {
    return change_step("cuGraphExecMemsetNodeSetParams", exec, node,
                       [&](Driver& d, Step& step) { return fill_of(d, *p, &step.operation); });
}
CUresult CUDAAPI cuGraphNodeSetEnabled(CUgraphExec exec, CUgraphNode node, unsigned int enabled) {
    return change_step("cuGraphNodeSetEnabled", exec, node, [&](Driver&, Step& step) {
        step.enabled = enabled != 0;
        return CUDA_SUCCESS;
    });
}
CUresult CUDAAPI cuGraphNodeGetEnabled(CUgraphExec exec, CUgraphNode node, unsigned int* enabled) {
    return change_step("cuGraphNodeGetEnabled", exec, node, [&](Driver&, Step& step) {
        *enabled = step.enabled;
        return CUDA_SUCCESS;
    });
}
CUresult CUDAAPI cuGraphExecUpdate_v2(CUgraphExec exec, CUgraph graph, CUgraphExecUpdateResultInfo* info) {
    return update(exec, graph, info);
}
