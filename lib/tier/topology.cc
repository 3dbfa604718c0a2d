#include "lib/tier/topology.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <sstream>

#include "lib/base/bytes.h"
#include "lib/tier/sysfs.h"

namespace tierd {

namespace {

// "Node 2 MemTotal:  586624 kB" of a node's meminfo, in bytes; 0: no such line.
uint64_t meminfo_bytes(const std::string& meminfo, const std::string& key) {
    size_t at = meminfo.find(" " + key + ":");
    if (at == std::string::npos) return 0;
    at = meminfo.find_first_of("0123456789", at + key.size() + 2);
    uint64_t kib = 0;
    if (at != std::string::npos) std::from_chars(meminfo.data() + at, meminfo.data() + meminfo.size(), kib);
    return kib * kKiB;
}

// The access class of processors (1) where the kernel has it, else that of any initiator (0). Latencies are in ns,
// bandwidths in MiB/s.
void read_figures(const std::string& folder, MemoryNode& node) {
    for (const char* access : {"/access1", "/access0"}) {
        std::string initiators = folder + access + "/initiators";
        uint64_t latency = read_sysfs_number(initiators + "/read_latency").value_or(0);
        uint64_t bandwidth = read_sysfs_number(initiators + "/read_bandwidth").value_or(0);
        if (node.latency_ns == 0) node.latency_ns = latency;
        if (node.bandwidth_bytes_per_s == 0) node.bandwidth_bytes_per_s = bandwidth * kMiB;
    }
}

std::vector<int> read_numbers(const std::string& line) {
    std::vector<int> numbers;
    std::istringstream in(line);
    for (int number = 0; in >> number;) numbers.push_back(number);
    return numbers;
}

std::vector<HugePagePool> read_pools(const std::string& folder) {
    std::vector<HugePagePool> pools;
    for (const std::string& name : list_folder(folder)) {
        std::string digits = name.starts_with("hugepages-") ? name.substr(10) : "";
        uint64_t kib = 0;
        std::from_chars(digits.data(), digits.data() + digits.size(), kib);
        if (kib == 0) continue;
        pools.push_back(
            {.page_bytes = kib * kKiB,
             .pages = read_sysfs_number(folder + "/" + name + "/nr_hugepages").value_or(0),
             .free_pages = read_sysfs_number(folder + "/" + name + "/free_hugepages").value_or(0)});
    }
    std::ranges::sort(pools, {}, &HugePagePool::page_bytes);
    return pools;
}

MemoryNode read_node(const std::string& folder, int number) {
    MemoryNode node;
    node.node = number;
    std::string meminfo = read_sysfs_text(folder + "/meminfo");
    node.total_bytes = meminfo_bytes(meminfo, "MemTotal");
    node.free_bytes = meminfo_bytes(meminfo, "MemFree");
    node.has_cpus = !parse_cpu_list(read_sysfs_line(folder + "/cpulist")).empty();
    node.distances = read_numbers(read_sysfs_line(folder + "/distance"));
    node.huge_pages = read_pools(folder + "/hugepages");
    read_figures(folder, node);
    return node;
}

// memory_tierN/nodelist: the kernel's ranking by abstract distance.
void read_kernel_tiers(const std::string& root, Topology& topology) {
    std::string folder = root + "/devices/virtual/memory_tiering";
    for (const std::string& name : list_folder(folder)) {
        auto tier = number_after(name, "memory_tier");
        if (!tier) continue;
        for (int member : parse_cpu_list(read_sysfs_line(folder + "/" + name + "/nodelist")))
            for (MemoryNode& node : topology.nodes)
                if (node.node == member) node.kernel_tier = *tier;
    }
}

// DAX devices that the kmem driver has made ordinary memory of. Those of a CXL region hang below it:
// …/root0/decoder0.0/region0/dax_region0/dax0.0.
void read_dax(const std::string& root, Topology& topology) {
    std::string folder = root + "/bus/dax/devices";
    for (const std::string& name : list_folder(folder)) {
        std::string device = folder + "/" + name;
        auto target = read_sysfs_number(device + "/target_node");
        std::error_code error;
        std::string driver = std::filesystem::read_symlink(device + "/driver", error).filename();
        if (!target || driver != "kmem") continue;
        std::string place = std::filesystem::canonical(device, error);
        for (MemoryNode& node : topology.nodes) {
            if (node.node != static_cast<int>(*target)) continue;
            node.is_device = true;
            node.is_cxl =
                place.find("/decoder") != std::string::npos && place.find("/region") != std::string::npos;
        }
    }
}

Topology single_node() {
    auto bytes = [](int name) {
        return static_cast<uint64_t>(::sysconf(name)) * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
    };
    MemoryNode node;
    node.total_bytes = bytes(_SC_PHYS_PAGES);
    node.free_bytes = bytes(_SC_AVPHYS_PAGES);
    node.has_cpus = true;
    return {.nodes = {node}};
}

}  // namespace

const MemoryNode* Topology::find(int node) const {
    auto found = std::ranges::find(nodes, node, &MemoryNode::node);
    return found == nodes.end() ? nullptr : &*found;
}

Topology read_topology(const std::string& root) {
    std::string folder = root + "/devices/system/node";
    Topology topology;
    for (int number : parse_cpu_list(read_sysfs_line(folder + "/has_memory"))) {
        MemoryNode node = read_node(folder + "/node" + std::to_string(number), number);
        if (node.total_bytes > 0 && topology.find(number) == nullptr)
            topology.nodes.push_back(std::move(node));
    }
    std::ranges::sort(topology.nodes, {}, &MemoryNode::node);
    if (topology.nodes.empty()) return single_node();
    read_kernel_tiers(root, topology);
    read_dax(root, topology);
    return topology;
}

}  // namespace tierd
