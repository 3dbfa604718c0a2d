#include "cli/tierctl/policy_view.h"

#include <fmt/format.h>

#include "cli/tierctl/text.h"
#include "lib/base/bytes.h"

namespace tierd {
namespace {

using nlohmann::json;

std::string text(const json& row, const char* key) {
    return escape(row.at(key).get<std::string>());
}
uint64_t number(const json& row, const char* key) {
    return row.at(key).get<uint64_t>();
}

// "read ahead 12, evict 3".
std::string counts(const json& list) {
    std::string out;
    for (const json& named : list)
        out += fmt::format("{}{} {}", out.empty() ? "" : ", ", text(named, "name"), number(named, "count"));
    return out.empty() ? "none" : out;
}

// Calls take fractions of a microsecond, which duration() would round away.
std::string call_time(uint64_t ns) {
    return ns < 10'000 ? fmt::format("{} ns", ns) : duration(ns);
}

std::string hooks_table(const json& hooks) {
    constexpr auto kRight = Table::Align::right;
    Table table({{"HOOK"},
                 {"CALLS", kRight},
                 {"P50", kRight},
                 {"P99", kRight},
                 {"MOST", kRight},
                 {"BUDGET", kRight},
                 {"OVER IT", kRight},
                 {"FAULTS", kRight}});
    for (const json& hook : hooks)
        table.add({text(hook, "hook"), std::to_string(number(hook, "calls")),
                   call_time(number(hook, "p50_ns")), call_time(number(hook, "p99_ns")),
                   call_time(number(hook, "max_ns")), call_time(number(hook, "budget_ns")),
                   std::to_string(number(hook, "over_budget")), std::to_string(number(hook, "faults"))});
    return table.text();
}

std::string object_text(const json& s) {
    std::string out = fmt::format(
        "policy     {}, an eBPF object ({}), for {}; {} takes over if it is ejected\n", text(s, "name"),
        text(s, "licence"), duration(number(s, "loaded_for_ns")), text(s, "built_in"));
    out += fmt::format("size       {} instructions verified, {} of own maps, sees {} of {} rows\n",
                       number(s, "verified_instructions"), format_bytes(number(s, "map_bytes")),
                       std::min(number(s, "rows"), number(s, "capacity")), number(s, "rows"));
    std::string knobs;
    for (const json& knob : s.at("knobs"))
        knobs += fmt::format(" {}={}", text(knob, "name"), text(knob, "value"));
    if (!knobs.empty()) out += "knobs     " + knobs + "\n";
    return out;
}

}  // namespace

std::string view_policy(const json& s) {
    bool loaded = s.at("loaded").get<bool>();
    std::string out =
        loaded ? object_text(s)
               : fmt::format("policy     {}, built in; no eBPF policy is loaded\n", text(s, "name"));
    if (std::string why = text(s, "unusable"); !why.empty()) out += "note       none can be: " + why + "\n";
    out += "accepted   " + counts(s.at("accepted")) + "\n";
    out += "refused    " + counts(s.at("refused")) + "\n";
    out += fmt::format("history    {} loaded, {} loaded again for more rows, {} ejected\n",
                       number(s, "loads"), number(s, "reloads"), number(s, "ejections"));
    if (std::string ejected = text(s, "ejected"); !ejected.empty())
        out += fmt::format("ejected    {}: {}\n", ejected, text(s, "ejected_reason"));
    if (uint64_t dropped = number(s, "calls_dropped"); dropped > 0)
        out += fmt::format("dropped    {} calls: too many waited\n", dropped);
    if (loaded) out += "\n" + hooks_table(s.at("hooks"));
    for (const json& line : s.at("log")) out += "log        " + escape(line.get<std::string>()) + "\n";
    return out;
}

std::string hook_names(const ObjectSummary& summary) {
    std::string out;
    for (Hook hook : summary.hooks) out += fmt::format("{}{}", out.empty() ? "" : ", ", hook_name(hook));
    return out;
}

std::string knob_text(const std::vector<Knob>& knobs) {
    std::string out;
    for (const Knob& knob : knobs)
        out += fmt::format("{}{}={}", out.empty() ? "" : " ", escape(knob.name), escape(knob.value));
    return out.empty() ? "-" : out;
}

}  // namespace tierd
