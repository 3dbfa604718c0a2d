#include "lib/tier/tier_spec.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <climits>

#include "lib/base/bytes.h"

namespace tierd {

namespace {

constexpr std::array<std::string_view, 4> kKindNames = {"", "hbm", "dram", "cxl"};
constexpr std::array<std::string_view, 4> kSourceNames = {"unknown", "firmware", "measured", "declared"};

// HBM has several times the bandwidth of DRAM at about its latency; memory behind CXL has half as much again of its
// latency at least, or a fraction of its bandwidth.
constexpr uint64_t kHbmBandwidthTimes = 2;
constexpr uint64_t kFarLatencyPercent = 150;
constexpr uint64_t kFarBandwidthPercent = 75;

NodeFigures firmware_figures(const MemoryNode& node) {
    return {node.latency_ns, node.bandwidth_bytes_per_s};
}

bool is_silent(const NodeFigures& figures) {
    return figures.latency_ns == 0 && figures.bandwidth_bytes_per_s == 0;
}

TierSpec system_tier(const Topology& topology, uint64_t dram_bytes) {
    TierSpec spec;
    spec.name = "dram0";
    spec.capacity_bytes = dram_bytes;
    for (const MemoryNode& node : topology.nodes) {
        if (!node.has_cpus) continue;
        spec.nodes.push_back(node.node);
        spec.memory_bytes += node.total_bytes;
        if (spec.source != FigureSource::unknown) continue;
        spec.latency_ns = node.latency_ns;
        spec.bandwidth_bytes_per_s = node.bandwidth_bytes_per_s;
        if (!is_silent(firmware_figures(node))) spec.source = FigureSource::firmware;
    }
    return spec;
}

// A node of which nothing is known but that it has no processors: the kernel's ranking, then the distance.
TierKind kind_by_ranking(const MemoryNode& node, const MemoryNode* dram) {
    if (dram != nullptr && node.kernel_tier >= 0 && dram->kernel_tier >= 0 &&
        node.kernel_tier != dram->kernel_tier)
        return node.kernel_tier < dram->kernel_tier ? TierKind::hbm : TierKind::cxl;
    return TierKind::cxl;
}

struct Measured {
    NodeFigures node;
    NodeFigures dram;
};

// Both by the same means. Nothing when one of them can't be had.
std::optional<Measured> compare(const MemoryNode& node, const MemoryNode* dram, const NodeProbe& probe) {
    if (dram == nullptr) return std::nullopt;
    if (!is_silent(firmware_figures(node)) && !is_silent(firmware_figures(*dram)))
        return Measured{firmware_figures(node), firmware_figures(*dram)};
    if (!probe) return std::nullopt;
    auto there = probe(node.node);
    auto here = probe(dram->node);
    if (!there || !here) return std::nullopt;
    return Measured{*there, *here};
}

TierSpec node_tier(const MemoryNode& node, const MemoryNode* dram, uint32_t share_percent,
                   const NodeProbe& probe) {
    TierSpec spec;
    spec.nodes = {node.node};
    spec.memory_bytes = node.total_bytes;
    spec.capacity_bytes = node.total_bytes / 100 * share_percent;
    auto measured = compare(node, dram, probe);
    if (measured) {
        spec.latency_ns = measured->node.latency_ns;
        spec.bandwidth_bytes_per_s = measured->node.bandwidth_bytes_per_s;
        spec.source = is_silent(firmware_figures(node)) ? FigureSource::measured : FigureSource::firmware;
    }
    spec.kind = node.is_cxl ? TierKind::cxl
                : measured  ? kind_by_figures(measured->node, measured->dram)
                            : kind_by_ranking(node, dram);
    spec.name = fmt::format("{}{}", tier_kind_name(spec.kind), node.node);
    return spec;
}

std::unexpected<Error> refuse(const std::string& name, std::string hint) {
    return fail(Code::bad_config, "use tier", name, std::move(hint));
}

// The kernel lists distances in the order of nodes.
std::map<int, int> distances_of(const MemoryNode& node, const Topology& topology) {
    std::map<int, int> distances;
    for (size_t i = 0; i < std::min(node.distances.size(), topology.nodes.size()); i++)
        distances[topology.nodes[i].node] = node.distances[i];
    return distances;
}

void apply(TierSpec& spec, const TierOverride& said) {
    if (said.kind) spec.kind = *said.kind;
    if (said.node) spec.nodes = {*said.node};
    if (said.capacity_bytes) spec.capacity_bytes = *said.capacity_bytes;
    if (said.latency_ns) spec.latency_ns = *said.latency_ns;
    if (said.bandwidth_bytes_per_s) spec.bandwidth_bytes_per_s = *said.bandwidth_bytes_per_s;
    if (said.latency_ns || said.bandwidth_bytes_per_s) spec.source = FigureSource::declared;
}

Result<void> check_claims(const std::vector<TierSpec>& tiers) {
    for (size_t i = 0; i < tiers.size(); i++)
        for (size_t j = 0; j < i; j++)
            for (int node : tiers[i].nodes)
                if (std::ranges::find(tiers[j].nodes, node) != tiers[j].nodes.end())
                    return refuse(tiers[i].name,
                                  fmt::format("node {} belongs to tier {} already: name that one", node,
                                              tiers[j].name));
    return {};
}

}  // namespace

std::string_view tier_kind_name(TierKind kind) noexcept {
    return kKindNames[static_cast<size_t>(kind)];
}

std::optional<TierKind> parse_tier_kind(std::string_view name) noexcept {
    for (size_t i = 1; i < kKindNames.size(); i++)
        if (kKindNames[i] == name) return static_cast<TierKind>(i);
    return std::nullopt;
}

std::string_view figure_source_name(FigureSource source) noexcept {
    return kSourceNames[static_cast<size_t>(source)];
}

TierKind kind_by_figures(const NodeFigures& node, const NodeFigures& dram) noexcept {
    bool both_bandwidths = node.bandwidth_bytes_per_s > 0 && dram.bandwidth_bytes_per_s > 0;
    if (both_bandwidths && node.bandwidth_bytes_per_s >= kHbmBandwidthTimes * dram.bandwidth_bytes_per_s)
        return TierKind::hbm;
    if (node.latency_ns > 0 && dram.latency_ns > 0 &&
        node.latency_ns * 100 >= dram.latency_ns * kFarLatencyPercent)
        return TierKind::cxl;
    if (both_bandwidths &&
        node.bandwidth_bytes_per_s * 100 < dram.bandwidth_bytes_per_s * kFarBandwidthPercent)
        return TierKind::cxl;
    return TierKind::dram;
}

int distance_from(const TierSpec& spec, int node) noexcept {
    if (std::ranges::find(spec.nodes, node) != spec.nodes.end()) return 0;
    auto found = spec.distances.find(node);
    return found == spec.distances.end() ? INT_MAX : found->second;
}

bool is_faster(const TierSpec& one, const TierSpec& other) noexcept {
    auto known = [](const TierSpec& spec) { return spec.latency_ns > 0 && spec.bandwidth_bytes_per_s > 0; };
    if (one.kind != other.kind) return one.kind < other.kind;
    if (!known(one) || !known(other)) return known(one) && !known(other);
    // What a whole extent costs to read: weights are streamed, so the bandwidth decides and latency breaks the tie.
    if (one.bandwidth_bytes_per_s != other.bandwidth_bytes_per_s)
        return one.bandwidth_bytes_per_s > other.bandwidth_bytes_per_s;
    return one.latency_ns < other.latency_ns;
}

std::vector<TierSpec> class_tiers(const Topology& topology, uint64_t dram_bytes, uint32_t share_percent,
                                  const NodeProbe& probe) {
    std::vector<TierSpec> tiers = {system_tier(topology, dram_bytes)};
    auto dram = std::ranges::find_if(topology.nodes, &MemoryNode::has_cpus);
    for (const MemoryNode& node : topology.nodes)
        if (!node.has_cpus)
            tiers.push_back(
                node_tier(node, dram == topology.nodes.end() ? nullptr : &*dram, share_percent, probe));
    for (TierSpec& tier : tiers)
        if (!tier.nodes.empty()) tier.distances = distances_of(*topology.find(tier.nodes.front()), topology);
    std::ranges::stable_sort(tiers, is_faster);
    return tiers;
}

Result<void> check_tier(const TierSpec& spec, const Topology& topology) {
    uint64_t memory_bytes = 0;
    for (int number : spec.nodes) {
        const MemoryNode* node = topology.find(number);
        if (node == nullptr) {
            std::vector<int> there;
            for (const MemoryNode& known : topology.nodes) there.push_back(known.node);
            return fail(Code::bad_input, "use tier", spec.name,
                        fmt::format("node {} has no memory; the nodes that have are {}", number,
                                    fmt::join(there, ", ")));
        }
        memory_bytes += node->total_bytes;
    }
    if (!spec.nodes.empty() && spec.capacity_bytes > memory_bytes)
        return fail(Code::bad_input, "use tier", spec.name,
                    fmt::format("{} is more than its {} of memory: give less",
                                format_bytes(spec.capacity_bytes), format_bytes(memory_bytes)));
    return {};
}

Result<std::vector<TierSpec>> merge_tiers(std::vector<TierSpec> found, std::span<const TierOverride> said,
                                          const Topology& topology) {
    for (size_t i = 0; i < said.size(); i++) {
        const TierOverride& one = said[i];
        auto same_name = [&](const TierOverride& other) { return other.name == one.name; };
        if (std::ranges::count_if(said, same_name) > 1)
            return refuse(one.name, "it is declared twice: write one [[tier]] with all that you say of it");
        auto known = std::ranges::find(found, one.name, &TierSpec::name);
        if (known == found.end()) {
            if (!one.kind || !one.capacity_bytes)
                return refuse(one.name, "no such tier was found; a new one needs a kind and a capacity");
            known = found.insert(found.end(), TierSpec{.name = one.name});
        } else if (one.node && known->nodes != std::vector{*one.node}) {
            return refuse(one.name,
                          fmt::format("its memory is in node {}: leave `node` out, or choose another name",
                                      fmt::join(known->nodes, ", ")));
        }
        apply(*known, one);
        if (auto fits = check_tier(*known, topology); !fits) return refuse(one.name, fits.error().hint);
        for (int node : known->nodes)
            if (known->memory_bytes == 0) known->memory_bytes = topology.find(node)->total_bytes;
        if (!known->nodes.empty())
            known->distances = distances_of(*topology.find(known->nodes.front()), topology);
    }
    if (auto apart = check_claims(found); !apart) return std::unexpected(apart.error());
    std::ranges::stable_sort(found, is_faster);
    return found;
}

}  // namespace tierd
