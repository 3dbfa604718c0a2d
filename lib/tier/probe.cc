#include "lib/tier/probe.h"

#include <linux/mempolicy.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <span>
#include <vector>

#include "lib/base/bytes.h"
#include "lib/base/clock.h"
#include "lib/base/fd.h"

namespace tierd {

namespace {

constexpr uint64_t kProbeBytes =
    32 * kMiB;  // beyond most caches of the second level, and most of a third level's share
constexpr uint64_t kLineBytes = 64;
constexpr uint32_t kMaxSteps = 200'000;
constexpr uint64_t kChaseNs = 20 * kNsPerMs;

struct alignas(kLineBytes) Line {
    uint32_t next = 0;
    uint32_t unused[15] = {};
};

std::optional<Mapping> memory_on(int node) {
    void* memory = ::mmap(nullptr, kProbeBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return std::nullopt;
    Mapping mapping(memory, kProbeBytes);
    std::vector<unsigned long> mask(static_cast<size_t>(node) / 64 + 1, 0);
    mask[static_cast<size_t>(node) / 64] = 1ul << (node % 64);
    // Preferred, not bound: a full node must not have anybody killed.
    if (::syscall(SYS_mbind, memory, kProbeBytes, MPOL_PREFERRED, mask.data(), mask.size() * 64 + 1, 0) != 0)
        return std::nullopt;
    ::madvise(memory, kProbeBytes, MADV_HUGEPAGE);
    if (::madvise(memory, kProbeBytes, MADV_POPULATE_WRITE) != 0) return std::nullopt;
    int where = -1;
    if (::syscall(SYS_get_mempolicy, &where, nullptr, 0, memory, MPOL_F_NODE | MPOL_F_ADDR) != 0 ||
        where != node)
        return std::nullopt;
    return mapping;
}

// One cycle through all lines in random order (a shuffle that leaves no line where it was).
void link_lines(std::span<Line> lines) {
    std::vector<uint32_t> order(lines.size());
    std::iota(order.begin(), order.end(), 0u);
    std::mt19937 random(1);
    std::shuffle(order.begin(), order.end(), random);
    for (size_t i = 0; i < order.size(); i++) lines[order[i]].next = order[(i + 1) % order.size()];
}

uint64_t chase_ns(std::span<const Line> lines) {
    uint32_t at = 0, steps = 0;
    uint64_t begin = monotonic_ns(), now = begin;
    while (steps < kMaxSteps && now - begin < kChaseNs) {
        for (int i = 0; i < 1000; i++) at = lines[at].next;
        steps += 1000;
        [[maybe_unused]] volatile uint32_t used = at;  // so that the chase is not optimised away
        now = monotonic_ns();
    }
    return (now - begin) / steps;
}

uint64_t stream_bytes_per_s(std::span<const Line> lines) {
    const auto* words = reinterpret_cast<const uint64_t*>(lines.data());
    const size_t count = lines.size_bytes() / sizeof(uint64_t);
    uint64_t sums[8] = {};
    uint64_t begin = monotonic_ns();
    for (size_t i = 0; i < count; i += 8)
        for (size_t lane = 0; lane < 8; lane++) sums[lane] += words[i + lane];
    uint64_t took_ns = monotonic_ns() - begin;
    [[maybe_unused]] volatile uint64_t used = std::accumulate(std::begin(sums), std::end(sums), uint64_t{0});
    return lines.size_bytes() * kNsPerSecond / std::max<uint64_t>(took_ns, 1);
}

}  // namespace

std::optional<NodeFigures> probe_node(int node) {
    auto memory = memory_on(node);
    if (!memory) return std::nullopt;
    std::span<Line> lines(reinterpret_cast<Line*>(memory->data()), kProbeBytes / sizeof(Line));
    link_lines(lines);
    return NodeFigures{.latency_ns = chase_ns(lines), .bandwidth_bytes_per_s = stream_bytes_per_s(lines)};
}

}  // namespace tierd
