#include "cuda_shim/cuda/graphs.h"

#include "cuda_shim/cuda/shim.h"

namespace tierd::shim::cuda {

namespace {

constexpr size_t kMaxNodes = 65536;

// Room for a list of nodes, from the kernel: the engine's allocator is not ours to use.
class Nodes {
  public:
    explicit Nodes(CUgraph graph) {
        auto* get = TIERD_REAL(cuGraphGetNodes);
        if (get == nullptr || get(graph, nullptr, &count_) != CUDA_SUCCESS || count_ > kMaxNodes) return;
        bytes_ = round_up((count_ + 1) * sizeof(CUgraphNode), kPageBytes);
        long got = sys::mmap(0, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (sys::failed(got)) return;
        nodes_ = reinterpret_cast<CUgraphNode*>(got);
        known_ = get(graph, nodes_, &count_) == CUDA_SUCCESS;
    }
    ~Nodes() {
        if (nodes_ != nullptr) sys::munmap(reinterpret_cast<uint64_t>(nodes_), bytes_);
    }
    Nodes(const Nodes&) = delete;
    Nodes& operator=(const Nodes&) = delete;

    bool known() const { return known_; }
    size_t count() const { return count_; }
    CUgraphNode operator[](size_t index) const { return nodes_[index]; }

  private:
    CUgraphNode* nodes_ = nullptr;
    size_t count_ = 0;
    uint64_t bytes_ = 0;
    bool known_ = false;
};

bool add_kernel(CUgraphNode node, const ReservedRange& range, AccessSet& access) {
    CUDA_KERNEL_NODE_PARAMS kernel{};
    auto* get = TIERD_REAL(cuGraphKernelNodeGetParams_v2);
    if (get == nullptr || get(node, &kernel) != CUDA_SUCCESS) return false;
    CUfunction function = kernel.func != nullptr ? kernel.func : reinterpret_cast<CUfunction>(kernel.kern);
    access.add_parameters(range, function, kernel.kernelParams, kernel.extra);
    return true;
}

bool add_graph(CUgraph graph, const ReservedRange& range, AccessSet& access, int depth);

// False when the node does not tell what it reaches.
bool add_node(CUgraphNode node, const ReservedRange& range, AccessSet& access, int depth) {
    CUgraphNodeType type = CU_GRAPH_NODE_TYPE_EMPTY;
    auto* ask = TIERD_REAL(cuGraphNodeGetType);
    if (ask == nullptr || ask(node, &type) != CUDA_SUCCESS) return false;
    CUDA_MEMCPY3D copy{};
    CUDA_MEMSET_NODE_PARAMS memset{};
    CUgraph child = nullptr;
    switch (type) {
        case CU_GRAPH_NODE_TYPE_KERNEL:
            return add_kernel(node, range, access);
        case CU_GRAPH_NODE_TYPE_MEMCPY:
            if (TIERD_REAL(cuGraphMemcpyNodeGetParams)(node, &copy) != CUDA_SUCCESS) return false;
            access.add_words(range, &copy, sizeof copy);
            return true;
        case CU_GRAPH_NODE_TYPE_MEMSET:
            if (TIERD_REAL(cuGraphMemsetNodeGetParams)(node, &memset) != CUDA_SUCCESS) return false;
            access.add_address(range, memset.dst);
            return true;
        case CU_GRAPH_NODE_TYPE_GRAPH:
            return TIERD_REAL(cuGraphChildGraphNodeGetGraph)(node, &child) == CUDA_SUCCESS &&
                   add_graph(child, range, access, depth + 1);
        case CU_GRAPH_NODE_TYPE_EMPTY:
        case CU_GRAPH_NODE_TYPE_HOST:
        case CU_GRAPH_NODE_TYPE_WAIT_EVENT:
        case CU_GRAPH_NODE_TYPE_EVENT_RECORD:
            return true;
        default:
            return false;
    }
}

bool add_graph(CUgraph graph, const ReservedRange& range, AccessSet& access, int depth) {
    constexpr int kMaxDepth = 16;
    Nodes nodes(graph);
    if (!nodes.known() || depth > kMaxDepth) return false;
    for (size_t i = 0; i < nodes.count(); i++)
        if (!add_node(nodes[i], range, access, depth)) return false;
    return true;
}

}  // namespace

void GraphTable::learn(CUgraphExec exec, const ReservedRange& range, const AccessSet& access) {
    forget(exec);
    if (rows_ == nullptr) {
        long got = sys::mmap(0, kGraphs * sizeof(Row), PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (sys::failed(got)) return;
        rows_ = reinterpret_cast<Row*>(got);
    }
    if (count_ == kGraphs || access.everything || access.count > kAddresses) return;
    Row& row = rows_[count_++];
    row.exec = exec;
    row.count = access.count;
    for (uint32_t i = 0; i < access.count; i++) row.addresses[i] = range.address_of(access.parts[i].first);
}

void GraphTable::forget(CUgraphExec exec) {
    for (uint32_t i = 0; i < count_; i++)
        if (rows_[i].exec == exec) rows_[i--] = rows_[--count_];
}

void GraphTable::add_access(CUgraphExec exec, const ReservedRange& range, AccessSet& access) const {
    for (uint32_t i = 0; i < count_; i++) {
        if (rows_[i].exec != exec) continue;
        for (uint32_t k = 0; k < rows_[i].count; k++) access.add_address(range, rows_[i].addresses[k]);
        return;
    }
    access.everything = range.allocated_chunks() != 0;
}

void learn_graph(CUgraphExec exec, CUgraph graph) {
    if (!is_enabled()) return;
    LockGuard guard(shim().lock);
    AccessSet access;
    // A graph without elastic memory in it is worth a row as well: it reaches nothing.
    if (!add_graph(graph, shim().gpu.range, access, 0)) access.everything = true;
    shim().graphs.learn(exec, shim().gpu.range, access);
}

void forget_graph(CUgraphExec exec) {
    if (!is_enabled()) return;
    LockGuard guard(shim().lock);
    shim().graphs.forget(exec);
}

}  // namespace tierd::shim::cuda
