#include "daemon/config.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/un.h>
#include <unistd.h>

#include <toml++/toml.h>
#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <fstream>
#include <span>
#include <sstream>
#include <variant>
#include <vector>

#include "lib/base/fd.h"
#include "lib/policy/policy.h"

namespace tierd {
namespace {

constexpr size_t kMaxFileBytes = 1 * kMiB;

// monostate: a kind that no key has (times, fractions, tables, mixed lists), so every setter refuses it.
using Value = std::variant<std::monostate, bool, int64_t, std::string, std::vector<std::string>>;
using Problem = std::string;  // what to write instead; empty: the value was taken

Problem set_bool(const Value& value, bool& out) {
    const bool* read = std::get_if<bool>(&value);
    if (read == nullptr) return "write true or false";
    out = *read;
    return {};
}

Problem set_number(const Value& value, uint32_t least, uint32_t most, uint32_t& out) {
    const int64_t* read = std::get_if<int64_t>(&value);
    if (read == nullptr || *read < least || *read > most)
        return fmt::format("write a whole number from {} to {}", least, most);
    out = static_cast<uint32_t>(*read);
    return {};
}

Problem set_text(const Value& value, std::string& out) {
    const std::string* read = std::get_if<std::string>(&value);
    if (read == nullptr || read->find('\0') != std::string::npos) return "write a text in quotes";
    out = *read;
    return {};
}

Problem set_socket(const Value& value, std::string& out) {
    constexpr size_t kMost = sizeof(sockaddr_un::sun_path) - 1;
    std::string read;
    if (Problem problem = set_text(value, read); !problem.empty()) return problem;
    if (read.empty() || read.size() > kMost)
        return fmt::format("write a path of 1 to {} bytes, the kernel's limit for sockets", kMost);
    out = read;
    return {};
}

Problem set_choice(const Value& value, std::span<const std::string_view> choices, std::string& out) {
    std::string read;
    if (!set_text(value, read).empty() || std::ranges::find(choices, read) == choices.end())
        return fmt::format("write one of \"{}\"", fmt::join(choices, "\", \""));
    out = read;
    return {};
}

Problem set_budget(const Value& value, BudgetSetting& out) {
    constexpr auto kWant = "write a size such as \"8GiB\", or a share of the memory from \"1%\" to \"95%\"";
    const std::string* read = std::get_if<std::string>(&value);
    if (read == nullptr) return kWant;
    if (read->ends_with('%')) {
        uint32_t percent = 0;
        const char* end = read->data() + read->size() - 1;
        auto [stop, error] = std::from_chars(read->data(), end, percent);
        if (error != std::errc{} || stop != end || percent < 1 || percent > 95) return kWant;
        out = {percent, 0};
        return {};
    }
    auto bytes = parse_bytes(*read);
    if (!bytes || *bytes == 0) return kWant;
    out.bytes = *bytes;
    return {};
}

Problem set_extent(const Value& value, uint64_t& out) {
    const std::string* read = std::get_if<std::string>(&value);
    auto bytes = parse_bytes(read == nullptr ? "" : *read);
    if (!bytes || *bytes < 64 * kKiB || *bytes > 2 * kMiB || !std::has_single_bit(*bytes))
        return "write a power of two from \"64KiB\" to \"2MiB\"";
    out = *bytes;
    return {};
}

Problem set_huge_pages(const Value& value, HugePages& out) {
    static constexpr std::array<std::string_view, 4> kNames = {"auto", "hugetlb", "thp",
                                                               "off"};  // as the enum
    std::string name;
    if (Problem problem = set_choice(value, kNames, name); !problem.empty()) return problem;
    out = static_cast<HugePages>(std::ranges::find(kNames, name) - kNames.begin());
    return {};
}

Problem set_share(const Value& value, uint32_t& out) {
    BudgetSetting share;
    if (!set_budget(value, share).empty() || share.bytes != 0)
        return "write a share of the memory from \"1%\" to \"95%\"";
    out = share.percent;
    return {};
}

Problem set_size(const Value& value, uint64_t& out) {
    const std::string* read = std::get_if<std::string>(&value);
    auto bytes = parse_bytes(read == nullptr ? "" : *read);
    if (!bytes) return "write a size in quotes, such as \"8GiB\"";
    out = *bytes;
    return {};
}

Problem set_metadata(const Value& value, uint64_t& out) {
    uint64_t bytes = 0;
    if (!set_size(value, bytes).empty() || bytes < kMiB) return "write a size of at least \"1MiB\"";
    out = bytes;
    return {};
}

Problem set_directory(const Value& value, std::string& out) {
    std::string read;
    if (!set_text(value, read).empty() || !read.starts_with('/')) return "write an absolute path in quotes";
    out = read;
    return {};
}

Problem set_object(const Value& value, std::string& out) {
    std::string read;
    if (!set_text(value, read).empty() || (!read.empty() && !read.starts_with('/')))
        return "write the absolute path of an object in quotes, or \"\" for none";
    out = read;
    return {};
}

Problem set_knobs(const Value& value, std::vector<std::string>& out) {
    const auto* read = std::get_if<std::vector<std::string>>(&value);
    auto is_knob = [](const std::string& knob) {
        return knob.find('=') != knob.npos && !knob.starts_with('=');
    };
    if (read == nullptr || !std::ranges::all_of(*read, is_knob)) return "write a list such as [\"depth=4\"]";
    out = *read;
    return {};
}

Problem set_level(const Value& value, std::string& out) {
    static constexpr std::array<std::string_view, 5> kLevels = {"trace", "debug", "info", "warning", "error"};
    return set_choice(value, kLevels, out);
}

Problem set_source(const Value& value, std::string& out) {
    static constexpr std::array<std::string_view, 6> kSources = {"auto", "hint", "pebs", "ibs", "spe", "off"};
    return set_choice(value, kSources, out);
}

Problem set_event(const Value& value, std::string& out) {
    static constexpr std::array<std::string_view, 6> kEvents = {"loads",         "l3_misses",  "local_memory",
                                                                "remote_memory", "far_memory", "stores"};
    return set_choice(value, kEvents, out);
}

struct Setting {
    std::string_view section;
    std::string_view key;
    Problem (*set)(Config& config, const Value& value);
};

// clang-format off
constexpr Setting kSettings[] = {
    {"session", "socket",           [](Config& c, const Value& v) { return set_socket(v, c.session.socket); }},
    {"session", "group",            [](Config& c, const Value& v) { return set_text(v, c.session.group); }},
    {"session", "deadline_ms",      [](Config& c, const Value& v) { return set_number(v, 50, 60000, c.session.deadline_ms); }},
    {"session", "max_sessions",     [](Config& c, const Value& v) { return set_number(v, 1, 65536, c.session.max_sessions); }},
    {"session", "user_metadata",    [](Config& c, const Value& v) { return set_metadata(v, c.session.user_metadata_bytes); }},
    {"session", "user_mode_faults", [](Config& c, const Value& v) { return set_bool(v, c.session.user_mode_faults); }},
    {"control", "socket",           [](Config& c, const Value& v) { return set_socket(v, c.control.socket); }},
    {"control", "group",            [](Config& c, const Value& v) { return set_text(v, c.control.group); }},
    {"memory",  "budget",           [](Config& c, const Value& v) { return set_budget(v, c.memory.budget); }},
    {"memory",  "extent",           [](Config& c, const Value& v) { return set_extent(v, c.memory.extent_bytes); }},
    {"memory",  "huge_pages",       [](Config& c, const Value& v) { return set_huge_pages(v, c.memory.huge_pages); }},
    {"io",      "depth",            [](Config& c, const Value& v) { return set_number(v, 1, 256, c.io.depth); }},
    {"io",      "direct",           [](Config& c, const Value& v) { return set_bool(v, c.io.direct); }},
    {"policy",  "name",             [](Config& c, const Value& v) { return set_choice(v, builtin_policy_names(), c.policy.name); }},
    {"policy",  "epoch_ms",         [](Config& c, const Value& v) { return set_number(v, 10, 10000, c.policy.epoch_ms); }},
    {"policy",  "read_ahead",       [](Config& c, const Value& v) { return set_bool(v, c.policy.read_ahead); }},
    {"policy",  "object",           [](Config& c, const Value& v) { return set_object(v, c.policy.object); }},
    {"policy",  "knobs",            [](Config& c, const Value& v) { return set_knobs(v, c.policy.knobs); }},
    {"tiers",   "discover",         [](Config& c, const Value& v) { return set_bool(v, c.tiers.discover); }},
    {"tiers",   "share",            [](Config& c, const Value& v) { return set_share(v, c.tiers.share_percent); }},
    {"tiers",   "migrate_limit",    [](Config& c, const Value& v) { return set_size(v, c.tiers.migrate_bytes_per_s); }},
    {"tiers",   "measure_disks",    [](Config& c, const Value& v) { return set_bool(v, c.tiers.measure_disks); }},
    {"gpu",     "capacity",         [](Config& c, const Value& v) { return set_budget(v, c.gpu.capacity); }},
    {"gpu",     "slice_ms",         [](Config& c, const Value& v) { return set_number(v, 10, 60000, c.gpu.slice_ms); }},
    {"sample",  "source",           [](Config& c, const Value& v) { return set_source(v, c.sample.source); }},
    {"sample",  "event",            [](Config& c, const Value& v) { return set_event(v, c.sample.event); }},
    {"sample",  "cost_percent",     [](Config& c, const Value& v) { return set_number(v, 1, 10, c.sample.cost_percent); }},
    {"state",   "directory",        [](Config& c, const Value& v) { return set_directory(v, c.state.directory); }},
    {"log",     "level",            [](Config& c, const Value& v) { return set_level(v, c.log.level); }},
};
// clang-format on

const Setting* find_setting(std::string_view section, std::string_view key) {
    auto found = std::ranges::find_if(
        kSettings, [&](const Setting& row) { return row.section == section && row.key == key; });
    return found == std::end(kSettings) ? nullptr : found;
}

// The names that could have been meant: the sections, or the keys of one section.
std::vector<std::string_view> known_names(std::string_view section) {
    std::vector<std::string_view> names;
    for (const Setting& row : kSettings) {
        std::string_view name = section.empty() ? row.section : row.key;
        if ((section.empty() || row.section == section) && std::ranges::find(names, name) == names.end())
            names.push_back(name);
    }
    return names;
}

std::unexpected<Error> refuse(const std::string& source, const toml::source_position& at,
                              std::string_view what, std::string hint) {
    return fail(Code::bad_config, "read configuration",
                fmt::format("{} line {}, column {}: {}", source, at.line, at.column, what), std::move(hint));
}

// Empty for a kind of value that no key takes.
Value value_of(const toml::node& node) {
    if (auto flag = node.value_exact<bool>()) return *flag;
    if (auto number = node.value_exact<int64_t>()) return *number;
    if (auto text = node.value_exact<std::string>()) return *text;
    if (const toml::array* list = node.as_array()) {
        std::vector<std::string> texts;
        for (const toml::node& item : *list) {
            auto text = item.value_exact<std::string>();
            if (!text) return {};
            texts.push_back(*text);
        }
        return texts;
    }
    return {};
}

Result<void> take_section(Config& config, const std::string& source, std::string_view section,
                          const toml::table& keys) {
    for (auto&& [key, node] : keys) {
        std::string name = fmt::format("{}.{}", section, key.str());
        const Setting* setting = find_setting(section, key.str());
        if (setting == nullptr)
            return refuse(
                source, key.source().begin, "unknown key " + name,
                fmt::format("the keys of [{}] are {}", section, fmt::join(known_names(section), ", ")));
        Problem problem = setting->set(config, value_of(node));
        if (!problem.empty()) return refuse(source, node.source().begin, name, problem);
    }
    return {};
}

Problem set_tier_key(TierOverride& tier, std::string_view key, const Value& value) {
    std::string text;
    uint32_t number = 0;
    uint64_t bytes = 0;
    if (key == "name") return set_text(value, tier.name);
    if (key == "kind") {
        bool read = set_text(value, text).empty();
        tier.kind = read ? parse_tier_kind(text) : std::nullopt;
        return tier.kind ? "" : "write one of \"hbm\", \"dram\", \"cxl\"";
    }
    Problem problem = "the keys of [[tier]] are name, kind, node, capacity, latency_ns, bandwidth";
    if (key == "node" && (problem = set_number(value, 0, 1023, number)).empty())
        tier.node = static_cast<int>(number);
    if (key == "latency_ns" && (problem = set_number(value, 1, 1'000'000, number)).empty())
        tier.latency_ns = number;
    if (key == "capacity" && (problem = set_size(value, bytes)).empty()) tier.capacity_bytes = bytes;
    if (key == "bandwidth" && (problem = set_size(value, bytes)).empty()) tier.bandwidth_bytes_per_s = bytes;
    return problem;
}

// [[tier]]: what the administrator says of one memory tier.
Result<void> take_tier(Config& config, const std::string& source, const toml::node& node) {
    const toml::table* keys = node.as_table();
    if (keys == nullptr)
        return refuse(source, node.source().begin, "tier", "write [[tier]] and its keys beneath");
    TierOverride tier;
    for (auto&& [key, value] : *keys) {
        Problem problem = set_tier_key(tier, key.str(), value_of(value));
        if (!problem.empty())
            return refuse(source, key.source().begin, fmt::format("tier.{}", key.str()), problem);
    }
    if (tier.name.empty()) return refuse(source, node.source().begin, "tier", "give it a name");
    config.tiers.said.push_back(std::move(tier));
    return {};
}

Result<std::string> read_whole(const std::string& path) {
    auto file = open_file(path, O_RDONLY);
    if (!file && file.error().err == ENOENT)
        return fail(Code::not_found, "read configuration", path,
                    "there is no such file; without --config the defaults apply");
    if (!file) return std::unexpected(file.error());
    std::string text(kMaxFileBytes + 1, '\0');
    size_t filled = 0;
    while (filled < text.size()) {
        ssize_t got = ::read(file->get(), text.data() + filled, text.size() - filled);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return os_error("read configuration", path, Code::io);
        if (got == 0) break;
        filled += static_cast<size_t>(got);
    }
    if (filled > kMaxFileBytes)
        return fail(Code::bad_config, "read configuration", path,
                    "it is larger than 1 MiB; is it the right file?");
    text.resize(filled);
    return text;
}

}  // namespace

Result<Config> parse_config(std::string_view text, const std::string& source) {
    Config config;
    toml::table tables;
    try {
        tables = toml::parse(text, source);
    } catch (const toml::parse_error& error) {
        return refuse(source, error.source().begin, error.description(), "correct the TOML there");
    }
    for (auto&& [section, node] : tables) {
        if (const toml::array* list = node.as_array(); section.str() == "tier" && list != nullptr) {
            for (auto&& entry : *list)
                if (auto taken = take_tier(config, source, entry); !taken)
                    return std::unexpected(taken.error());
            continue;
        }
        auto names = known_names({});
        if (std::ranges::find(names, section.str()) == names.end())
            return refuse(source, section.source().begin, fmt::format("unknown section {}", section.str()),
                          fmt::format("the sections are [{}]", fmt::join(names, "], [")));
        const toml::table* keys = node.as_table();
        if (keys == nullptr)
            return refuse(source, section.source().begin, section.str(),
                          fmt::format("it is a section: write [{}] and its keys beneath", section.str()));
        if (auto taken = take_section(config, source, section.str(), *keys); !taken)
            return std::unexpected(taken.error());
    }
    return config;
}

Result<Config> load_config(const std::string& path) {
    auto text = read_whole(path);
    if (!text) return std::unexpected(text.error());
    return parse_config(*text, path);
}

Result<void> apply_override(Config& config, std::string_view key, const std::string& value) {
    size_t dot = key.find('.');
    const Setting* setting =
        dot == std::string_view::npos ? nullptr : find_setting(key.substr(0, dot), key.substr(dot + 1));
    if (setting == nullptr)
        return fail(Code::bad_config, "set", std::string(key), "there is no such key in the configuration");
    Config changed = config;
    Problem problem = setting->set(changed, Value(value));
    if (!problem.empty())
        return fail(Code::bad_config, "set", fmt::format("{} to \"{}\"", key, value), problem);
    config = std::move(changed);
    return {};
}

uint64_t budget_bytes(const BudgetSetting& budget, uint64_t ram_bytes) noexcept {
    return budget.bytes != 0 ? budget.bytes : ram_bytes / 100 * budget.percent;
}

uint64_t usable_ram_bytes() {
    uint64_t least =
        static_cast<uint64_t>(::sysconf(_SC_PHYS_PAGES)) * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
    std::string line, group;
    std::ifstream groups("/proc/self/cgroup");
    while (std::getline(groups, line))
        if (line.starts_with("0::/")) group = line.substr(3);
    // A limit anywhere above holds too, so every group up to the root is asked.
    while (true) {
        if (group.ends_with('/')) group.pop_back();
        std::ifstream limit("/sys/fs/cgroup" + group + "/memory.max");
        uint64_t bytes = 0;
        if (limit >> bytes) least = std::min(least, bytes);  // "max" is no number: no limit
        if (group.empty()) break;
        group.resize(group.rfind('/'));
    }
    return least;
}

}  // namespace tierd
