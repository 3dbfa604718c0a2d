// config.h - tierd's configuration: the administrator's settings, checked once.
//
// Owns:      the settings, their defaults and their ranges.
// Invariant: what parse_config() and apply_override() leave holds only values in range; a Config made by
//            default equals packaging/tierd.toml (a test compares them).
// Callers:   main, at the start, before any thread exists.
// Fails:     bad_config; the error names the file, line and column, the key, and what to write instead.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "lib/arena/arena_store.h"
#include "lib/base/bytes.h"
#include "lib/base/result.h"
#include "lib/tier/tier_spec.h"

namespace tierd {

// How much memory weights may take: a share of the machine's, or a size.
struct BudgetSetting {
    uint32_t percent = 75;  // of usable_ram_bytes(), 1 to 95; ignored when `bytes` is set
    uint64_t bytes = 0;     // 0: `percent` holds

    bool operator==(const BudgetSetting&) const = default;
};

struct SessionConfig {
    std::string socket = "/run/tierd/tierd.sock";  // at most 107 bytes, the kernel's limit
    std::string group;                             // its members get /dev/userfaultfd; empty: root alone
    uint32_t deadline_ms = 500;    // 50 to 60000: a heartbeat older than this means that tierd hangs
    uint32_t max_sessions = 1024;  // 1 to 65536
    uint64_t user_metadata_bytes =
        256 * kMiB;                 // at least 1 MiB: of tierd's own memory, to keep book of one user's files
    bool user_mode_faults = false;  // true: who may not have /dev/userfaultfd is served without it

    bool operator==(const SessionConfig&) const = default;
};

struct ControlConfig {
    std::string socket = "/run/tierd/control.sock";  // at most 107 bytes
    std::string group;                               // its members may use the control API; empty: root alone

    bool operator==(const ControlConfig&) const = default;
};

struct MemoryConfig {
    BudgetSetting budget;
    uint64_t extent_bytes = 2 * kMiB;  // 64 KiB to 2 MiB, a power of two
    HugePages huge_pages = HugePages::automatic;

    bool operator==(const MemoryConfig&) const = default;
};

struct IoConfig {
    uint32_t depth = 8;  // reads in flight at once, 1 to 256
    bool direct = true;  // O_DIRECT where the file system can

    bool operator==(const IoConfig&) const = default;
};

struct PolicyConfig {
    std::string name = "auto";  // one of builtin_policy_names()
    uint32_t epoch_ms = 100;    // 10 to 10000
    bool read_ahead = true;
    std::string object;              // path of an eBPF policy to load at the start; empty: none
    std::vector<std::string> knobs;  // "name=value" of it

    bool operator==(const PolicyConfig&) const = default;
};

struct TiersConfig {
    bool discover = true;  // memory nodes without processors are taken into use, also those that appear later
    uint32_t share_percent = 75;                // of each such node's memory, for weights; 1 to 95
    uint64_t migrate_bytes_per_s = 256 * kMiB;  // moves between tiers; 0: as fast as the memory is
    bool measure_disks =
        true;  // how fast they read: once each, 48 MiB of a weight file, when nobody waits for them
    std::vector<TierOverride> said = {};  // [[tier]]

    bool operator==(const TiersConfig&) const = default;
};

struct GpuSettings {
    BudgetSetting capacity{.percent = 90};  // of a GPU's memory
    uint32_t slice_ms = 500;                // 10 to 60000

    bool operator==(const GpuSettings&) const = default;
};

struct SampleConfig {
    std::string source = "auto";  // auto, hint, pebs, ibs, spe or off
    std::string event =
        "loads";  // of pebs, ibs and spe: loads, stores, l3_misses, local_memory, remote_memory or far_memory
    uint32_t cost_percent = 1;  // 1 to 10; of one core, what statistics may cost

    bool operator==(const SampleConfig&) const = default;
};

struct StateConfig {
    std::string directory = "/var/lib/tierd";

    bool operator==(const StateConfig&) const = default;
};

struct LogConfig {
    std::string level = "info";  // trace, debug, info, warning or error: names that spdlog knows too

    bool operator==(const LogConfig&) const = default;
};

struct Config {
    SessionConfig session;
    ControlConfig control;
    MemoryConfig memory;
    IoConfig io;
    PolicyConfig policy;
    TiersConfig tiers;
    GpuSettings gpu;
    SampleConfig sample;
    StateConfig state;
    LogConfig log;

    bool operator==(const Config&) const = default;
};

// Reads TOML. `source` is the file's name for messages. Keys that are not written keep their defaults; a key
// or section that does not exist is an error, so a misspelt one is never silently without effect.
Result<Config> parse_config(std::string_view text, const std::string& source);

// parse_config() of a file of at most 1 MiB. Errors: also not_found, or the errno of open(2) or read(2).
Result<Config> load_config(const std::string& path);

// Sets one key to what the command line says: `key` is "memory.budget", `value` is as the file would have it
// in quotes. `config` is unchanged on error. Only keys whose value is a text or a size can be set so.
Result<void> apply_override(Config& config, std::string_view key, const std::string& value);

// The budget in bytes. `ram_bytes` comes from usable_ram_bytes().
uint64_t budget_bytes(const BudgetSetting& budget, uint64_t ram_bytes) noexcept;

// The machine's memory, or less where a control group (version 2) limits this process to less.
uint64_t usable_ram_bytes();

}  // namespace tierd
