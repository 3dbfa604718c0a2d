// topology.h - the memory of this machine, as the kernel reports it: a pure function of a sysfs tree.
//
// Owns:      nothing; a Topology is a snapshot.
// Invariant: a node is listed only if it has memory that programs can use; a figure that the kernel does not report
//            is 0.
// Callers:   any thread; reads some hundred small files.
// Fails:     never: a machine without NUMA files is one node with all processors.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tierd {

struct HugePagePool {
    uint64_t page_bytes = 0;
    uint64_t pages = 0;
    uint64_t free_pages = 0;
};

struct MemoryNode {
    int node = 0;
    uint64_t total_bytes = 0;
    uint64_t free_bytes = 0;
    bool has_cpus = false;
    bool is_cxl = false;      // the node belongs to a CXL region
    bool is_device = false;   // it came by a DAX device in the kmem mode: memory that is not the system's own
    int kernel_tier = -1;     // the kernel's own ranking: memory_tierN; the lower the faster; -1: it has none
    uint64_t latency_ns = 0;  // of a read by the nearest processors
    uint64_t bandwidth_bytes_per_s = 0;    // of reading
    std::vector<int> distances;            // to nodes in ascending order of their numbers; 10: itself
    std::vector<HugePagePool> huge_pages;  // pools in this node, the smallest pages first
};

struct Topology {
    std::vector<MemoryNode> nodes;  // ascending by number

    const MemoryNode* find(int node) const;
};

// Reads the tree under `root` ("/sys").
Topology read_topology(const std::string& root = "/sys");

}  // namespace tierd
