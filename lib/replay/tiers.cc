#include "lib/replay/tiers.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <toml++/toml.h>
#include <algorithm>
#include <array>
#include <charconv>
#include <functional>
#include <span>

#include "lib/base/bytes.h"
#include "lib/base/fd.h"

namespace tierd {
namespace {

constexpr size_t kMaxFileBytes = 64 * kKiB;
constexpr std::array<std::string_view, NR_TIERD_KINDS> kKinds{"", "hbm", "dram", "cxl"};

// What a key's value must be; false: it is not.
using Setter = std::function<bool(const toml::node&)>;
struct Key {
    std::string_view name;
    std::string_view wanted;
    Setter set;
};

template <class Number>
bool set_number(const toml::node& node, int64_t least, int64_t most, uint64_t factor, Number& out) {
    auto value = node.is_integer() ? node.value<int64_t>() : std::nullopt;
    if (!value || *value < least || *value > most) return false;
    out = static_cast<Number>(static_cast<uint64_t>(*value) * factor);
    return true;
}

bool set_bytes(const toml::node& node, uint64_t whole_bytes, uint64_t& out) {
    auto text = node.value<std::string>();
    if (!node.is_string() || !text) return false;
    if (text->ends_with('%')) {
        uint32_t percent = 0;
        const char* end = text->data() + text->size() - 1;
        auto [stop, error] = std::from_chars(text->data(), end, percent);
        if (error != std::errc{} || stop != end || percent > 1000 || whole_bytes == 0) return false;
        out = whole_bytes / 100 * percent;
        return out > 0;
    }
    auto bytes = parse_bytes(*text);
    if (!bytes || *bytes == 0) return false;
    out = *bytes;
    return true;
}

bool set_kind(const toml::node& node, uint8_t& out) {
    auto text = node.value<std::string>();
    auto found = std::ranges::find(kKinds, text.value_or(""));
    if (found == kKinds.end() || found->empty()) return false;
    out = static_cast<uint8_t>(found - kKinds.begin());
    return true;
}

class Parser {
  public:
    Parser(const std::string& path, uint64_t weights_bytes) : path_(path), weights_bytes_(weights_bytes) {}

    Result<ReplayTiers> run(std::string_view text) {
        toml::table tables;
        try {
            tables = toml::parse(text, path_);
        } catch (const toml::parse_error& error) {
            return refuse(error.source().begin, std::string(error.description()), "correct the TOML there");
        }
        for (auto&& [name, node] : tables)
            if (auto taken = take(name.str(), node); !taken) return std::unexpected(taken.error());
        if (out_.tiers.empty())
            return refuse({1, 1}, "it has no memory tier", "write [[tier]] and a capacity beneath");
        rank();
        return std::move(out_);
    }

  private:
    std::unexpected<Error> refuse(toml::source_position at, std::string what, std::string hint) const {
        return fail(Code::bad_config, fmt::format("{}:{}:{}: {}", path_, at.line, at.column, what), {},
                    std::move(hint));
    }

    Result<void> take(std::string_view name, const toml::node& node) {
        if (name == "tier" && node.is_array_of_tables()) {
            for (auto&& tier : *node.as_array())
                if (auto taken = take_tier(*tier.as_table()); !taken) return taken;
            return {};
        }
        const toml::table* keys = node.as_table();
        if (keys != nullptr && name == "disk") return take_disk(*keys);
        if (keys != nullptr && name == "engine") return take_engine(*keys);
        return refuse(node.source().begin, fmt::format("what is {}?", name),
                      "the sections are [[tier]], [disk] and [engine]");
    }

    Result<void> take_tier(const toml::table& keys) {
        if (out_.tiers.size() + 1 >= TIERD_MAX_TIERS)
            return refuse(keys.source().begin, "too many tiers",
                          fmt::format("write at most {}", TIERD_MAX_TIERS - 1));
        tierd_tier_info tier{};
        tier.kind = TIERD_KIND_DRAM;
        uint64_t capacity_bytes = 0, bandwidth_bytes_per_s = 0;
        const Key known[] = {
            {"kind", "\"hbm\", \"dram\" or \"cxl\"", [&](auto& n) { return set_kind(n, tier.kind); }},
            {"capacity", "a size such as \"8GiB\", or a share of the trace's weights such as \"50%\"",
             [&](auto& n) { return set_bytes(n, weights_bytes_, capacity_bytes); }},
            {"latency_ns", "a whole number from 0",
             [&](auto& n) { return set_number(n, 0, UINT32_MAX, 1, tier.latency_ns); }},
            {"bandwidth_per_s", "a size such as \"100GiB\"",
             [&](auto& n) { return set_bytes(n, 0, bandwidth_bytes_per_s); }}};
        if (auto taken = take_keys(keys, known); !taken) return taken;
        if (capacity_bytes == 0)
            return refuse(keys.source().begin, "a tier without capacity", "write capacity = \"8GiB\"");
        tier.capacity_bytes = capacity_bytes;
        tier.bandwidth_bytes_per_s = bandwidth_bytes_per_s;
        out_.tiers.push_back(tier);
        return {};
    }

    Result<void> take_disk(const toml::table& keys) {
        ReplayDisk& disk = out_.disk;
        const Key known[] = {{"bandwidth_per_s", "a size such as \"2GiB\"",
                              [&](auto& n) { return set_bytes(n, 0, disk.bandwidth_bytes_per_s); }},
                             {"latency_us", "a whole number from 0",
                              [&](auto& n) { return set_number(n, 0, 10'000'000, 1000, disk.latency_ns); }},
                             {"depth", "a whole number from 1 to 256",
                              [&](auto& n) { return set_number(n, 1, 256, 1, disk.depth); }}};
        return take_keys(keys, known);
    }

    Result<void> take_engine(const toml::table& keys) {
        const Key known[] = {{"epoch_ms", "a whole number from 1 to 60000",
                              [&](auto& n) { return set_number(n, 1, 60'000, kNsPerMs, out_.epoch_ns); }},
                             {"evict_us", "a whole number from 0",
                              [&](auto& n) { return set_number(n, 0, 10'000'000, 1000, out_.evict_ns); }},
                             {"sample_every", "a whole number from 0",
                              [&](auto& n) { return set_number(n, 0, INT32_MAX, 1, out_.sample_every); }}};
        return take_keys(keys, known);
    }

    Result<void> take_keys(const toml::table& keys, std::span<const Key> known) const {
        for (auto&& [name, node] : keys) {
            auto found = std::ranges::find(known, name.str(), &Key::name);
            if (found == known.end()) {
                std::vector<std::string_view> names;
                for (const Key& key : known) names.push_back(key.name);
                return refuse(name.source().begin, fmt::format("unknown key {}", name.str()),
                              fmt::format("the keys here are {}", fmt::join(names, ", ")));
            }
            if (!found->set(node))
                return refuse(node.source().begin, std::string(name.str()),
                              fmt::format("write {}", found->wanted));
        }
        return {};
    }

    // By latency; of equals, the first in the file is the faster.
    void rank() {
        std::vector<tierd_tier_info*> by_speed;
        for (tierd_tier_info& tier : out_.tiers) by_speed.push_back(&tier);
        std::ranges::stable_sort(by_speed, {},
                                 [](const tierd_tier_info* tier) { return uint32_t{tier->latency_ns}; });
        for (size_t i = 0; i < by_speed.size(); i++) by_speed[i]->rank = static_cast<uint8_t>(i);
    }

    const std::string& path_;
    uint64_t weights_bytes_;
    ReplayTiers out_;
};

}  // namespace

uint64_t ReplayTiers::capacity_bytes() const {
    uint64_t bytes = 0;
    for (const tierd_tier_info& tier : tiers) bytes += tier.capacity_bytes;
    return bytes;
}

uint64_t transfer_ns(uint64_t bytes, uint64_t bandwidth_bytes_per_s) {
    if (bandwidth_bytes_per_s == 0) return 0;
    return static_cast<uint64_t>(static_cast<double>(bytes) * 1e9 /
                                 static_cast<double>(bandwidth_bytes_per_s));
}

ReplayTiers plain_tiers(uint64_t capacity_bytes) {
    ReplayTiers tiers;
    tierd_tier_info dram{};
    dram.kind = TIERD_KIND_DRAM;
    dram.capacity_bytes = capacity_bytes;
    tiers.tiers.push_back(dram);
    return tiers;
}

Result<ReplayTiers> parse_tiers(std::string_view toml, const std::string& path, uint64_t weights_bytes) {
    return Parser(path, weights_bytes).run(toml);
}

Result<ReplayTiers> read_tiers(const std::string& path, uint64_t weights_bytes) {
    auto file = open_file(path, O_RDONLY);
    if (!file) return std::unexpected(file.error());
    std::string text(kMaxFileBytes + 1, '\0');
    ssize_t got = ::read(file->get(), text.data(), text.size());
    if (got < 0) return os_error("read the tiers", path, Code::io);
    if (static_cast<size_t>(got) > kMaxFileBytes)
        return fail(Code::bad_config, "read the tiers", path,
                    "it is larger than 64 KiB; is it the right file?");
    text.resize(static_cast<size_t>(got));
    return parse_tiers(text, path, weights_bytes);
}

}  // namespace tierd
