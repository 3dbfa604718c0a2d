#include "lib/sample/code_map.h"

#include <fmt/format.h>

#include <cinttypes>
#include <cstdio>
#include <fstream>

namespace tierd {

void CodeMap::add(uint32_t pid, uint64_t address, uint64_t length_bytes, uint64_t offset_bytes,
                  const std::string& path) {
    if (address > UINT64_MAX - length_bytes) return;
    processes_[pid].ranges[address] = {address + length_bytes, offset_bytes, path};
}

CodePlace CodeMap::place_in(const Process& process, uint64_t instruction) {
    auto after = process.ranges.upper_bound(instruction);
    if (after == process.ranges.begin()) return {};
    auto& [address, range] = *std::prev(after);
    if (instruction >= range.end) return {};
    return {range.path, range.offset_bytes + (instruction - address)};
}

CodePlace CodeMap::find(uint32_t pid, uint64_t instruction, uint64_t now_ns) {
    constexpr uint64_t kKernel = 1ull << 63;
    constexpr uint64_t kAgainNs = 1'000'000'000;
    if ((instruction & kKernel) != 0) return {"[kernel]", 0};
    if (live_ && processes_.size() > kMostProcesses) processes_.clear();
    Process& process = processes_[pid];
    CodePlace place = place_in(process, instruction);
    bool stale = process.read_ns == 0 || now_ns > process.read_ns + kAgainNs;
    if (!place.object.empty() || !live_ || !stale) return place;
    process.read_ns = now_ns;
    read_maps(pid, process);
    return place_in(process, instruction);
}

void CodeMap::read_maps(uint32_t pid, Process& process) {
    process.ranges.clear();
    std::ifstream in(fmt::format("/proc/{}/maps", pid));
    std::string line;
    while (std::getline(in, line)) {
        uint64_t begin = 0, end = 0, offset = 0;
        char rights[5] = {};
        int path_at = 0;
        if (std::sscanf(line.c_str(), "%" SCNx64 "-%" SCNx64 " %4s %" SCNx64 " %*s %*s %n", &begin, &end,
                        rights, &offset, &path_at) < 4)
            continue;
        if (rights[2] != 'x') continue;
        process.ranges[begin] = {end, offset, line.substr(static_cast<size_t>(path_at))};
    }
}

}  // namespace tierd
