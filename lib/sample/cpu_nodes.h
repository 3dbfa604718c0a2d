// cpu_nodes.h - the memory node of each processor, and of the processor that a thread last ran on.
//
// Owns:      the table of processors, and the result of each thread's lookup, for kKeepNs.
// Invariant: a node is what the kernel reported, or kNoNode.
// Callers:   CpuNodes by any thread; ThreadNodes by one. The lookup of a thread reads a small file of /proc, at most
//            once in kKeepNs for each, and none if the machine has only one node.
// Fails:     with kNoNode.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace tierd {

inline constexpr int kNoNode = -1;

class CpuNodes {
  public:
    // Reads the tree under `root` ("/sys"). A machine without the files of NUMA is one node.
    static CpuNodes read(const std::string& root = "/sys");

    int node_of(uint32_t cpu) const { return cpu < nodes_.size() ? nodes_[cpu] : kNoNode; }
    // The node that all processors are on; kNoNode where there are several.
    int only_node() const { return only_node_; }

  private:
    std::vector<int> nodes_;  // by processor
    int only_node_ = kNoNode;
};

class ThreadNodes {
  public:
    static constexpr uint64_t kKeepNs = 1'000'000'000;
    // `root`: "/proc".
    explicit ThreadNodes(CpuNodes cpus, std::string root = "/proc")
        : cpus_(std::move(cpus)), root_(std::move(root)) {}

    // The node of the processor that the thread runs on, or ran on last: for a thread that waits in a fault, where it
    // touched.
    int node_of(uint32_t pid, uint32_t tid, uint64_t now_ns);

  private:
    static constexpr size_t kMostThreads = 4096;
    struct Known {
        int node = kNoNode;
        uint64_t read_ns = 0;
    };
    CpuNodes cpus_;
    std::string root_;
    std::map<uint64_t, Known> threads_;  // by pid and tid
};

}  // namespace tierd
