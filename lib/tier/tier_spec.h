// tier_spec.h - the memory tiers to use: those that were found, classified by their figures, and the administrator's
// corrections.
//
// Owns:      nothing; values.
// Invariant: names are unique; tiers are ordered by speed, the fastest first. A tier without nodes is a declared one:
//            the kernel chooses where its memory is, and only the account and the figures are its own.
// Callers:   any thread.
// Fails:     merge_tiers(): bad_config with what to write instead.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/result.h"
#include "lib/tier/topology.h"

namespace tierd {

enum class TierKind : uint8_t { hbm = 1, dram = 2, cxl = 3 };  // numbers as in the policy ABI
std::string_view tier_kind_name(TierKind kind) noexcept;
std::optional<TierKind> parse_tier_kind(std::string_view name) noexcept;

// Where a tier's figures come from.
enum class FigureSource : uint8_t { unknown, firmware, measured, declared };
std::string_view figure_source_name(FigureSource source) noexcept;

struct TierSpec {
    std::string name;  // "cxl2": kind and first node, unless the administrator chose another
    TierKind kind = TierKind::dram;
    std::vector<int> nodes = {};  // empty: declared without memory of its own
    uint64_t capacity_bytes = 0;  // for weights
    uint64_t memory_bytes = 0;    // that the nodes have; 0 without nodes
    uint64_t latency_ns = 0;      // 0: unknown, as below
    uint64_t bandwidth_bytes_per_s = 0;
    FigureSource source = FigureSource::unknown;
    std::map<int, int> distances = {};  // of its first node from others, as the kernel ranks them

    bool operator==(const TierSpec&) const = default;
};

// An administrator's settings of a tier; an empty one keeps what was found.
struct TierOverride {
    std::string name;  // of a found tier, or a new one's
    std::optional<TierKind> kind = {};
    std::optional<int> node = {};  // a new tier's memory; none: declared
    std::optional<uint64_t> capacity_bytes = {};
    std::optional<uint64_t> latency_ns = {};
    std::optional<uint64_t> bandwidth_bytes_per_s = {};

    bool operator==(const TierOverride&) const = default;
};

struct NodeFigures {
    uint64_t latency_ns = 0;
    uint64_t bandwidth_bytes_per_s = 0;
};
// Measures a node; see probe.h. Empty: it can't be measured.
using NodeProbe = std::function<std::optional<NodeFigures>(int node)>;

// The tiers of a machine. All nodes with processors are one tier, dram0, whose memory the kernel hands out as it always
// does; each node without is a tier of its own, with `share_percent` of its memory as capacity. `dram_bytes` is dram0's
// capacity. Where firmware is silent about a node without processors, it and one with processors are measured, so that
// like is compared with like.
std::vector<TierSpec> class_tiers(const Topology& topology, uint64_t dram_bytes, uint32_t share_percent,
                                  const NodeProbe& probe);

// What a node without processors is, beside ordinary DRAM of these figures.
TierKind kind_by_figures(const NodeFigures& node, const NodeFigures& dram) noexcept;

// Applies the administrator's settings. Errors: bad_config for a name given twice, a node that is not there or that two
// tiers claim, a new tier without kind or capacity, more capacity than the node has.
Result<std::vector<TierSpec>> merge_tiers(std::vector<TierSpec> found, std::span<const TierOverride> said,
                                          const Topology& topology);

// Checks one tier against the machine. Errors: bad_input, as above.
Result<void> check_tier(const TierSpec& spec, const Topology& topology);

// How far the tier is from the processors of a node: 0 where it is theirs, INT_MAX if unknown.
int distance_from(const TierSpec& spec, int node) noexcept;

// The fastest first: by kind; of one kind by bandwidth and latency, those of which both are known before others.
bool is_faster(const TierSpec& one, const TierSpec& other) noexcept;

}  // namespace tierd
