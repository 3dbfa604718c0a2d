#include "lib/rules/rule_values.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstring>
#include <optional>

#include "lib/base/bytes.h"
#include "lib/base/clock.h"

namespace tierd {
namespace {

constexpr uint32_t kMostNumber = 65534;  // of a layer or an expert
constexpr uint32_t kMostReadAhead = 128;
constexpr double kMostHeat = 65535;

// In the order of enum tierd_role.
constexpr std::array<std::string_view, NR_TIERD_ROLES> kRoles = {
    "other", "embedding", "attention", "router", "expert", "feed_forward", "norm", "head"};
constexpr std::array<std::string_view, 3> kClasses = {"first", "normal", "last"};
constexpr std::array<std::string_view, 3> kKinds = {"hbm", "dram", "cxl"};

// The value when it is one and of this type.
template <class T>
const T* only(const RuleValue& value) {
    return value.is_list || value.items.size() != 1 ? nullptr : std::get_if<T>(&value.items.front());
}

template <size_t N>
ValueProblem take_pattern(char (&out)[N], const RuleValue& value, std::string_view example) {
    const std::string* read = only<std::string>(value);
    if (read == nullptr || read->empty() || read->size() >= N || read->find('\0') != read->npos)
        return {fmt::format("write a pattern of 1 to {} bytes in quotes, such as \"{}\"", N - 1, example)};
    std::memset(out, 0, N);
    std::memcpy(out, read->data(), read->size());
    return {};
}

ValueProblem set_model(tierd_rule& rule, const RuleValue& value, const RuleLookups&) {
    return take_pattern(rule.model, value, "mixtral*");
}

ValueProblem set_role(tierd_rule& rule, const RuleValue& value, const RuleLookups&) {
    uint16_t roles = 0;
    for (const RuleScalar& item : value.items) {
        const std::string* name = std::get_if<std::string>(&item);
        auto found = name == nullptr ? kRoles.end() : std::ranges::find(kRoles, *name);
        if (found == kRoles.end())
            return {fmt::format("write one of \"{}\", or a list of them", fmt::join(kRoles, "\", \""))};
        roles |= static_cast<uint16_t>(1u << (found - kRoles.begin()));
    }
    rule.roles = roles;
    if (roles == 0) return {"the list is empty: the rule can never match; name a role or leave it out", true};
    return {};
}

std::optional<uint16_t> number_of(std::string_view text) {
    uint16_t number = 0;
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    bool is_whole = error == std::errc{} && end == text.data() + text.size() && number <= kMostNumber;
    return is_whole ? std::optional(number) : std::nullopt;
}

// 5, "5", "0-3", "12-".
std::optional<tierd_rule_range> range_of(const RuleScalar& item) {
    if (const int64_t* number = std::get_if<int64_t>(&item)) {
        if (*number < 0 || *number > kMostNumber) return std::nullopt;
        return tierd_rule_range{static_cast<uint16_t>(*number), static_cast<uint16_t>(*number)};
    }
    const std::string* text = std::get_if<std::string>(&item);
    if (text == nullptr) return std::nullopt;
    std::string_view whole = *text;
    size_t dash = whole.find('-');
    auto first = number_of(whole.substr(0, dash));
    if (!first) return std::nullopt;
    if (dash == whole.npos) return tierd_rule_range{*first, *first};
    if (dash + 1 == whole.size()) return tierd_rule_range{*first, kMostNumber};
    auto last = number_of(whole.substr(dash + 1));
    return last ? std::optional(tierd_rule_range{*first, *last}) : std::nullopt;
}

// Sorted, and merged where they touch.
std::vector<tierd_rule_range> merged(std::vector<tierd_rule_range> ranges) {
    std::ranges::sort(ranges, {}, &tierd_rule_range::first);
    std::vector<tierd_rule_range> out;
    for (const tierd_rule_range& range : ranges) {
        if (!out.empty() && range.first <= out.back().last + 1)
            out.back().last = std::max(out.back().last, range.last);
        else
            out.push_back(range);
    }
    return out;
}

ValueProblem set_ranges(tierd_rule_range (&out)[TIERD_RULE_RANGES], const RuleValue& value) {
    constexpr auto kWant = "write a number such as 5, a range such as \"0-3\" or \"12-\", or a list of them";
    std::vector<tierd_rule_range> ranges;
    std::string empty;
    for (const RuleScalar& item : value.items) {
        auto range = range_of(item);
        if (!range) return {kWant};
        if (range->first <= range->last)
            ranges.push_back(*range);
        else
            empty = std::get<std::string>(item);
    }
    ranges = merged(std::move(ranges));
    if (ranges.size() > TIERD_RULE_RANGES)
        return {fmt::format("at most {} ranges fit into a rule: write the rest as a second one",
                            TIERD_RULE_RANGES)};
    std::ranges::fill(out, tierd_rule_range{1, 0});
    std::ranges::copy(ranges, out);
    if (ranges.empty())
        return {"nothing is in it: the rule can never match; write the smaller number first", true};
    if (!empty.empty())
        return {fmt::format("nothing is in \"{}\"; write the smaller number first", empty), true};
    return {};
}

ValueProblem set_layer(tierd_rule& rule, const RuleValue& value, const RuleLookups&) {
    return set_ranges(rule.layers, value);
}
ValueProblem set_expert(tierd_rule& rule, const RuleValue& value, const RuleLookups&) {
    return set_ranges(rule.experts, value);
}

ValueProblem set_user(tierd_rule& rule, const RuleValue& value, const RuleLookups& lookups) {
    if (const int64_t* number = only<int64_t>(value);
        number != nullptr && *number >= 0 && *number < TIERD_ANY_USER) {
        rule.uid = static_cast<uint32_t>(*number);
        return {};
    }
    const std::string* name = only<std::string>(value);
    if (name == nullptr) return {"write a user's name in quotes, or a number from 0 to 4294967294"};
    auto uid = lookups.user(*name);
    if (!uid) return {uid.error().text()};
    rule.uid = *uid;
    return {};
}

ValueProblem set_cgroup(tierd_rule& rule, const RuleValue& value, const RuleLookups& lookups) {
    if (const int64_t* number = only<int64_t>(value); number != nullptr && *number > 0) {
        rule.cgroup = static_cast<uint64_t>(*number);
        return {};
    }
    const std::string* path = only<std::string>(value);
    if (path == nullptr || !path->starts_with('/') || path->find('\0') != path->npos)
        return {
            "write the group's path in quotes, as /proc/PID/cgroup shows it behind \"0::\", or its number"};
    auto id = lookups.cgroup(*path);
    if (!id) return {id.error().text()};
    rule.cgroup = *id;
    return {};
}

ValueProblem set_heat(uint32_t& out, const RuleValue& value) {
    double heat = -1;
    if (const int64_t* whole = only<int64_t>(value)) heat = static_cast<double>(*whole);
    if (const double* fraction = only<double>(value)) heat = *fraction;
    if (!(heat >= 0 && heat <= kMostHeat))
        return {"write a number from 0 to 65535: about how often it was touched lately"};
    out = static_cast<uint32_t>(std::llround(heat * 65536));
    return {};
}
ValueProblem set_heat_least(tierd_rule& rule, const RuleValue& value, const RuleLookups&) {
    return set_heat(rule.heat_least, value);
}
ValueProblem set_heat_most(tierd_rule& rule, const RuleValue& value, const RuleLookups&) {
    return set_heat(rule.heat_most, value);
}

struct TimeUnit {
    std::string_view name;
    uint64_t ns;
};
constexpr TimeUnit kTimeUnits[] = {{"ms", kNsPerSecond / 1000},
                                   {"s", kNsPerSecond},
                                   {"min", 60 * kNsPerSecond},
                                   {"h", 3600 * kNsPerSecond},
                                   {"d", 86400 * kNsPerSecond}};

ValueProblem set_idle(tierd_rule& rule, const RuleValue& value, const RuleLookups&) {
    constexpr auto kWant =
        "write a time such as \"500ms\", \"30s\", \"10min\", \"2h\" or \"1d\", at most 10000 days";
    const std::string* text = only<std::string>(value);
    if (text == nullptr) return {kWant};
    uint64_t count = 0;
    const char* end = text->data() + text->size();
    auto [stop, error] = std::from_chars(text->data(), end, count);
    auto unit = std::ranges::find(kTimeUnits, std::string_view(stop, end), &TimeUnit::name);
    constexpr uint64_t kMostNs = 10000 * 86400 * kNsPerSecond;
    if (error != std::errc{} || unit == std::end(kTimeUnits) || count > kMostNs / unit->ns) return {kWant};
    rule.idle_ns = count * unit->ns;
    return {};
}

ValueProblem set_pin(tierd_rule& rule, const RuleValue& value, const RuleLookups&) {
    const bool* read = only<bool>(value);
    if (read == nullptr) return {"write true or false"};
    rule.pin = *read;
    return {};
}

ValueProblem set_evict(tierd_rule& rule, const RuleValue& value, const RuleLookups&) {
    const std::string* name = only<std::string>(value);
    auto found = name == nullptr ? kClasses.end() : std::ranges::find(kClasses, *name);
    if (found == kClasses.end())
        return {fmt::format("write one of \"{}\"; what must stay is `pin = true`",
                            fmt::join(kClasses, "\", \""))};
    rule.evict = static_cast<uint8_t>(TIERD_EVICT_FIRST + (found - kClasses.begin()));
    return {};
}

ValueProblem set_cap(tierd_rule& rule, const RuleValue& value, const RuleLookups&) {
    const std::string* text = only<std::string>(value);
    auto bytes = parse_bytes(text == nullptr ? "" : *text);
    if (!bytes) return {"write a size in quotes, such as \"4GiB\""};
    rule.cap_bytes = *bytes;
    return {};
}

ValueProblem set_tier(tierd_rule& rule, const RuleValue& value, const RuleLookups&) {
    char name[TIERD_TIER_NAME_BYTES];
    if (ValueProblem problem = take_pattern(name, value, "cxl*"))
        return {problem.text + ", or a kind: hbm, dram or cxl"};
    auto kind = std::ranges::find(kKinds, std::string_view(name));
    rule.tier_kind =
        static_cast<uint8_t>(kind == kKinds.end() ? 0 : TIERD_KIND_HBM + (kind - kKinds.begin()));
    std::memcpy(rule.tier, name, sizeof name);
    return {};
}

ValueProblem set_read_ahead(tierd_rule& rule, const RuleValue& value, const RuleLookups&) {
    const int64_t* read = only<int64_t>(value);
    if (read == nullptr || *read < 0 || *read > kMostReadAhead)
        return {fmt::format("write a number of extents from 0 to {}", kMostReadAhead)};
    rule.read_ahead = static_cast<uint32_t>(*read);
    return {};
}

// The settings are in the order of enum tierd_rule_setting.
// clang-format off
constexpr RuleKey kKeys[] = {
    {"model",         false, set_model},
    {"role",          false, set_role},
    {"layer",         false, set_layer},
    {"expert",        false, set_expert},
    {"user",          false, set_user},
    {"cgroup",        false, set_cgroup},
    {"heat_at_least", false, set_heat_least},
    {"heat_at_most",  false, set_heat_most},
    {"idle",          false, set_idle},
    {"pin",           true,  set_pin},
    {"evict",         true,  set_evict},
    {"cap",           true,  set_cap},
    {"tier",          true,  set_tier},
    {"read_ahead",    true,  set_read_ahead},
};
// clang-format on
constexpr size_t kFirstSetting = 9;
static_assert(kKeys[kFirstSetting].is_setting && !kKeys[kFirstSetting - 1].is_setting);
static_assert(std::size(kKeys) == kFirstSetting + NR_TIERD_RULE_SETTINGS);

// How many single changes make one word the other.
size_t distance(std::string_view one, std::string_view other) {
    std::vector<size_t> row(other.size() + 1);
    for (size_t i = 0; i < row.size(); i++) row[i] = i;
    for (size_t i = 1; i <= one.size(); i++) {
        size_t diagonal = std::exchange(row[0], i);
        for (size_t j = 1; j <= other.size(); j++) {
            size_t change = diagonal + (one[i - 1] != other[j - 1]);
            diagonal = std::exchange(row[j], std::min({row[j] + 1, row[j - 1] + 1, change}));
        }
    }
    return row.back();
}

}  // namespace

std::span<const RuleKey> rule_keys() {
    return kKeys;
}

const RuleKey* find_rule_key(std::string_view name) {
    auto found = std::ranges::find(kKeys, name, &RuleKey::name);
    return found == std::end(kKeys) ? nullptr : found;
}

std::string_view setting_key(int setting) {
    return kKeys[kFirstSetting + static_cast<size_t>(setting)].name;
}

tierd_rule blank_rule() {
    tierd_rule rule{};
    rule.model[0] = '*';
    rule.uid = TIERD_ANY_USER;
    rule.heat_most = TIERD_ANY_HEAT;
    rule.roles = TIERD_ANY_ROLE;
    std::ranges::fill(rule.layers, tierd_rule_range{1, 0});
    std::ranges::fill(rule.experts, tierd_rule_range{1, 0});
    rule.layers[0] = rule.experts[0] = {0, UINT16_MAX};
    return rule;
}

std::string_view nearest_name(std::string_view written, std::span<const std::string_view> known) {
    if (written.size() > 40) return {};
    auto near =
        std::ranges::min_element(known, {}, [&](std::string_view name) { return distance(written, name); });
    if (near == known.end() || distance(written, *near) > std::max<size_t>(1, near->size() / 2)) return {};
    return *near;
}

}  // namespace tierd
