// tiers.h - the machine that a replay models: its memory tiers and the disk beneath.
//
// Owns:      values; reads them from TOML (`tierctl policy test --tiers`).
// Invariant: at least one memory tier, ranks from 0 without gaps, every capacity and the disk's bandwidth above 0.
// Callers:   any thread.
// Fails:     bad_config with file, line and what to write instead.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "bpf/tierd_policy.h"
#include "lib/base/clock.h"
#include "lib/base/result.h"

namespace tierd {

struct ReplayDisk {
    uint64_t bandwidth_bytes_per_s = 2'000'000'000;
    uint64_t latency_ns = 100'000;
    uint32_t depth = 16;  // reads under way at once; demand reads may be more
};

struct ReplayTiers {
    std::vector<tierd_tier_info> tiers;  // memory, number 1 first
    ReplayDisk disk;
    uint64_t epoch_ns = 100 * kNsPerMs;
    uint64_t evict_ns = 100'000;  // from naming a victim to free memory
    uint32_t sample_every =
        0;  // touches of mapped extents: each so-many-th is counted in their heat; 0: none

    uint64_t capacity_bytes() const;  // of all memory tiers
};

// How long it takes to read so much; 0 where the bandwidth is unknown.
uint64_t transfer_ns(uint64_t bytes, uint64_t bandwidth_bytes_per_s);

// One memory tier of DRAM.
ReplayTiers plain_tiers(uint64_t capacity_bytes);

// See docs/policies.md. A capacity may be a size or a share of the trace's weights ("50%"): `weights_bytes`.
Result<ReplayTiers> parse_tiers(std::string_view toml, const std::string& path, uint64_t weights_bytes);
Result<ReplayTiers> read_tiers(const std::string& path, uint64_t weights_bytes);

}  // namespace tierd
