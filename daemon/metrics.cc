#include "daemon/metrics.h"

#include <fmt/format.h>

#include "daemon/api_json.h"
#include "lib/base/clock.h"
#include "lib/placement/counter_table.h"

namespace tierd {
namespace {

void add_head(std::string& out, const char* name, const char* help, const char* type) {
    out += fmt::format("# HELP {} {}\n# TYPE {} {}\n", name, help, name, type);
}

void add_gauge(std::string& out, const char* name, const char* help, uint64_t value) {
    add_head(out, name, help, "gauge");
    out += fmt::format("{} {}\n", name, value);
}

void add_seconds(std::string& out, const char* name, const char* help, uint64_t value_ns) {
    add_head(out, name, help, "gauge");
    out += fmt::format("{} {}\n", name, static_cast<double>(value_ns) / static_cast<double>(kNsPerSecond));
}

// A label's value: valid UTF-8, with the three characters escaped that the format names.
std::string label(const std::string& text) {
    std::string out;
    for (char c : valid_utf8(text)) {
        if (c == '\\' || c == '"') out += '\\';
        if (c == '\n')
            out += "\\n";
        else
            out += c;
    }
    return out;
}

void add_models(std::string& out, const std::vector<ModelStatus>& models) {
    auto add = [&](const char* name, const char* help, uint64_t ModelStatus::* value) {
        add_head(out, name, help, "gauge");
        for (const ModelStatus& model : models)
            out += fmt::format("{}{{file=\"{}\",model=\"{}\"}} {}\n", name, model.file, label(model.name),
                               model.*value);
    };
    add("tierd_model_file_bytes", "Size of the weight file.", &ModelStatus::file_bytes);
    add("tierd_model_resident_bytes", "Bytes of the weight file in memory.", &ModelStatus::resident_bytes);
    add("tierd_model_pinned_bytes", "Bytes of the weight file that are never victims.",
        &ModelStatus::pinned_bytes);
    add("tierd_model_sessions", "Processes that have the weight file mapped.", &ModelStatus::sessions);
}

void add_tiers(std::string& out, const std::vector<TierStatus>& tiers) {
    auto add = [&](const char* name, const char* help, uint64_t TierStatus::* value) {
        add_head(out, name, help, "gauge");
        for (const TierStatus& tier : tiers)
            out += fmt::format("{}{{tier=\"{}\",kind=\"{}\"}} {}\n", name, label(tier.name), label(tier.kind),
                               tier.*value);
    };
    add("tierd_tier_capacity_bytes", "Most bytes of weights that the tier may hold.",
        &TierStatus::capacity_bytes);
    add("tierd_tier_used_bytes", "Bytes of weights in the tier.", &TierStatus::used_bytes);
}

void add_counts(std::string& out, const char* name, const char* key, const char* help,
                const std::vector<NamedCount>& counts) {
    add_head(out, name, help, "counter");
    for (const NamedCount& row : counts)
        out += fmt::format("{}{{{}=\"{}\"}} {}\n", name, key, label(row.name), row.count);
}

void add_policy(std::string& out, const PolicyStatus& policy) {
    auto add = [&](const char* name, const char* help, uint64_t value) {
        add_head(out, name, help, "counter");
        out += fmt::format("{} {}\n", name, value);
    };
    add("tierd_policy_loads_total", "eBPF policies put in place.", policy.loads);
    add("tierd_policy_ejections_total", "eBPF policies that were ejected.", policy.ejections);
    add("tierd_policy_calls_dropped_total",
        "Calls of the policy that were not made, because too many waited.", policy.calls_dropped);
    add_counts(out, "tierd_policy_accepted_total", "kind", "Decisions executed, of the current policy.",
               policy.accepted);
    add_counts(out, "tierd_policy_refused_total", "reason", "Its decisions that failed validation.",
               policy.refused);
    auto add_hooks = [&](const char* name, const char* help, uint64_t HookStatus::* value) {
        add_head(out, name, help, "counter");
        for (const HookStatus& hook : policy.hooks)
            out += fmt::format("{}{{hook=\"{}\"}} {}\n", name, label(hook.hook), hook.*value);
    };
    add_hooks("tierd_policy_calls_total", "Calls of its hooks.", &HookStatus::calls);
    add_hooks("tierd_policy_over_budget_total", "Calls that took longer than they may.",
              &HookStatus::over_budget);
    add_hooks("tierd_policy_faults_total", "Calls that failed, or returned what they may not.",
              &HookStatus::faults);
}

}  // namespace

std::string prometheus_text(const EngineStatus& status, const std::vector<ModelStatus>& models,
                            const std::vector<TierStatus>& tiers, const PolicyStatus& policy) {
    std::string out;
    add_head(out, "tierd_info", "What runs; always 1.", "gauge");
    out += fmt::format("tierd_info{{version=\"{}\",policy=\"{}\"}} 1\n", label(status.version),
                       label(status.policy));
    for (const CounterRow& row : kEngineCounters) {
        if (*row.metric == '\0') continue;
        if (*row.help != '\0') add_head(out, row.metric, row.help, "counter");
        out += fmt::format("{}{} {}\n", row.metric, row.labels, status.counters.*row.value);
    }
    add_seconds(out, "tierd_uptime_seconds", "Time since the start.", status.uptime_ns);
    add_seconds(out, "tierd_slowest_fault_seconds",
                "Longest time from a fault's arrival to its end since the start.",
                status.counters.slowest_fault_ns);
    add_gauge(out, "tierd_budget_bytes", "Most bytes of weights that may be in memory.", status.budget_bytes);
    add_gauge(out, "tierd_resident_bytes", "Bytes of weights in memory.", status.resident_bytes);
    add_gauge(out, "tierd_resident_peak_bytes", "The most that it ever was.", status.resident_peak_bytes);
    add_gauge(out, "tierd_pinned_bytes", "Bytes of weights that are never victims.", status.pinned_bytes);
    add_gauge(out, "tierd_models", "Weight files known.", status.models);
    add_gauge(out, "tierd_sessions", "Client processes attached.", status.sessions);
    add_gauge(out, "tierd_move_limit_bytes_per_second",
              "Most bytes that may be moved in a second; 0: no limit.", status.moves.limit_bytes_per_s);
    add_gauge(out, "tierd_move_pace_bytes_per_second", "Of it, as much as readers allow now.",
              status.moves.rate_bytes_per_s);
    add_models(out, models);
    add_tiers(out, tiers);
    add_counts(out, "tierd_fall_backs_total", "reason",
               "Ranges and sessions sent back to the kernel's mapping.", status.fall_backs);
    add_counts(out, "tierd_refusals_total", "reason", "Clients and files that were not served.",
               status.refusals);
    add_policy(out, policy);
    return out;
}

}  // namespace tierd
