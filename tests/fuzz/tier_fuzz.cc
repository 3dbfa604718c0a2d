// tier_fuzz.cc - fuzz target: any bytes as what the kernel says of memory, and after a line "---" as [[tier]] tables. Aborts
// where tiers come out that break their promises, or a configuration is refused without a word.
//
// The kernel's files are lines of "path|text" beneath devices/system/node, as in tests/unit/sysfs.
//
// Owns:      a folder that it fills and empties.
// Callers:   libFuzzer's main or replay_main.cc, one thread.
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "daemon/config.h"
#include "lib/base/bytes.h"
#include "lib/tier/tier_spec.h"
#include "lib/tier/topology.h"

using namespace tierd;

static void require(bool holds, const char* what) {
    if (!holds) {
        std::fprintf(stderr, "broken: %s\n", what);
        std::abort();
    }
}

// A folder for all inputs.
static const std::filesystem::path& root() {
    static const std::filesystem::path made = [] {
        // In memory where that can be had: every input is some sixty files.
        std::filesystem::path parent = std::filesystem::temp_directory_path();
        if (::access("/dev/shm", W_OK) == 0) parent = "/dev/shm";
        std::string name = (parent / "tierd-tier-fuzz-XXXXXX").string();
        require(::mkdtemp(name.data()) != nullptr, "no folder can be made");
        std::atexit([] { std::filesystem::remove_all(root()); });
        return std::filesystem::path(name);
    }();
    return made;
}

// Names that stay in the folder.
static bool is_harmless(const std::string& path) {
    bool only_these = std::ranges::all_of(path, [](char c) {
        return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '/' || c == '_' || c == '-';
    });
    return only_these && !path.empty() && path.front() != '/' && path.size() < 120;
}

static void write_tree(std::istream& lines) {
    std::filesystem::remove_all(root() / "devices");
    int files = 0;
    for (std::string line; std::getline(lines, line) && line != "---" && files < 64;) {
        size_t bar = line.find('|');
        if (bar == std::string::npos || !is_harmless(line.substr(0, bar))) continue;
        auto file = root() / "devices/system/node" / line.substr(0, bar);
        std::error_code error;
        std::filesystem::create_directories(file.parent_path(), error);
        std::string text = line.substr(bar + 1);
        for (size_t at; (at = text.find("\\n")) != std::string::npos;) text.replace(at, 2, "\n");
        std::ofstream(file) << text << '\n';
        files++;
    }
}

static void check(const std::vector<TierSpec>& tiers, const Topology& topology) {
    std::set<std::string> names;
    std::set<int> nodes;
    for (size_t i = 0; i < tiers.size(); i++) {
        require(names.insert(tiers[i].name).second, "two tiers of one name");
        for (int node : tiers[i].nodes) {
            require(nodes.insert(node).second, "a node in two tiers");
            require(topology.find(node) != nullptr, "a node that is not there");
        }
        for (size_t j = 0; j < i; j++) require(!is_faster(tiers[i], tiers[j]), "out of order");
    }
}

static std::optional<NodeFigures> probe(int node) {
    return node % 2 == 0 ? std::optional(NodeFigures{100, kGiB}) : std::nullopt;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    std::istringstream input(std::string(reinterpret_cast<const char*>(data), size));
    write_tree(input);
    Topology topology = read_topology(root().string());
    require(!topology.nodes.empty(), "no memory at all");
    auto tiers = class_tiers(topology, 64 * kMiB, 75, probe);
    check(tiers, topology);
    for (const TierSpec& tier : tiers)
        if (tier.name != "dram0")
            require(tier.capacity_bytes <= tier.memory_bytes, "more capacity than memory");
    std::ostringstream toml;
    toml << input.rdbuf();
    auto config = parse_config(toml.str(), "fuzz");
    if (!config) return 0;  // fuzz_config's matter
    auto merged = merge_tiers(std::move(tiers), config->tiers.said, topology);
    require(merged || !merged.error().text().empty(), "refused without a word");
    if (!merged) return 0;
    check(*merged, topology);
    return 0;
}
