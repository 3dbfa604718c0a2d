#include "lib/sample/cpu_nodes.h"

#include <fmt/format.h>

#include <fstream>
#include <sstream>

#include "lib/tier/sysfs.h"

namespace tierd {

namespace {

// Field 39 of /proc/PID/task/TID/stat: the processor. The name, field 2, is in brackets and may contain anything.
int64_t processor_of(const std::string& stat) {
    auto name_end = stat.rfind(')');
    if (name_end == std::string::npos) return -1;
    std::istringstream rest(stat.substr(name_end + 1));
    std::string word;
    for (int field = 3; field < 39; field++) rest >> word;
    int64_t processor = -1;
    return rest >> processor ? processor : -1;
}

}  // namespace

CpuNodes CpuNodes::read(const std::string& root) {
    CpuNodes found;
    int nodes = 0;
    const std::string folder = root + "/devices/system/node";
    for (const std::string& name : list_folder(folder)) {
        auto node = number_after(name, "node");
        if (!node) continue;
        auto cpus = parse_cpu_list(read_sysfs_line(fmt::format("{}/{}/cpulist", folder, name)));
        for (int cpu : cpus) {
            auto at = static_cast<size_t>(cpu);
            if (found.nodes_.size() <= at) found.nodes_.resize(at + 1, kNoNode);
            found.nodes_[at] = *node;
        }
        if (!cpus.empty() && nodes++ == 0) found.only_node_ = *node;
    }
    if (nodes > 1) found.only_node_ = kNoNode;
    if (nodes == 0) found.only_node_ = 0;
    return found;
}

int ThreadNodes::node_of(uint32_t pid, uint32_t tid, uint64_t now_ns) {
    if (cpus_.only_node() != kNoNode) return cpus_.only_node();
    if (tid == 0) return kNoNode;
    uint64_t key = uint64_t{pid} << 32 | tid;
    auto known = threads_.find(key);
    if (known != threads_.end() && now_ns < known->second.read_ns + kKeepNs) return known->second.node;
    if (threads_.size() >= kMostThreads) threads_.clear();
    std::ifstream in(fmt::format("{}/{}/task/{}/stat", root_, pid, tid));
    std::string stat;
    std::getline(in, stat);
    int64_t cpu = processor_of(stat);
    int node = cpu < 0 ? kNoNode : cpus_.node_of(static_cast<uint32_t>(cpu));
    threads_[key] = {node, now_ns};
    return node;
}

}  // namespace tierd
