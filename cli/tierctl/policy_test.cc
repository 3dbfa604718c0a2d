#include "cli/tierctl/policy_test.h"

#include <fmt/format.h>

#include <array>
#include <fstream>
#include <memory>

#include "cli/tierctl/policy_verbs.h"
#include "cli/tierctl/text.h"
#include "lib/base/bytes.h"
#include "lib/replay/chart.h"
#include "lib/replay/replay.h"
#include "lib/trace/trace_reader.h"

namespace tierd {
namespace {

using nlohmann::json;

constexpr std::array kShares{0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75};  // of the capacity, for the curve
constexpr std::string_view kBuiltin = "builtin:";

// Something to play the trace with, at any capacity.
struct Contender {
    std::string name;
    std::function<Result<ReplayResult>(const ReplayTiers&)> run;
};

Failure failure(const Error& error) {
    bool usage =
        error.code == Code::bad_input || error.code == Code::bad_config || error.code == Code::not_found;
    return {usage ? Exit::usage : Exit::failed, error.text()};
}

std::expected<std::vector<Contender>, Failure> contenders(const PolicyTest& test, const Workload& workload) {
    std::vector<Contender> all;
    auto knobs = read_sets(test.sets);
    if (!knobs) return std::unexpected(knobs.error());
    for (const std::string& policy : test.policies) {
        if (policy.starts_with(kBuiltin)) {
            std::string name = policy.substr(kBuiltin.size());
            all.push_back(
                {policy, [&workload, name](auto& tiers) { return replay_builtin(workload, tiers, name); }});
            continue;
        }
        auto object = find_object(policy);
        if (!object) return std::unexpected(failure(object.error()));
        std::string name = object->name;
        all.push_back({name, [&workload, object = std::move(*object), set = *knobs](auto& tiers) {
                           return replay_policy(workload, tiers, object, set);
                       }});
    }
    all.push_back(
        {"LRU", [&workload](auto& tiers) { return replay_reference(workload, tiers, Reference::lru); }});
    all.push_back({"optimum", [&workload](auto& tiers) {
                       return replay_reference(workload, tiers, Reference::belady);
                   }});
    return all;
}

struct Findings {
    std::vector<ReplayResult> at_capacity;  // by contender
    Chart chart;                            // no places: it was not asked for
};

Result<Findings> play(const PolicyTest& test, const std::vector<Contender>& all, const ReplayTiers& tiers,
                      uint64_t weights_bytes) {
    Findings found;
    for (const Contender& contender : all) {
        Curve curve{contender.name, {}};
        auto here = contender.run(tiers);
        if (!here) return std::unexpected(here.error());
        for (double share : kShares) {
            if (!test.curve) break;
            auto result = share == 1.0 ? here : contender.run(scaled(tiers, share));
            if (!result) return std::unexpected(result.error());
            curve.values.push_back(result->all.hit_ratio());
        }
        here->policy = contender.name;
        found.at_capacity.push_back(std::move(*here));
        if (test.curve) found.chart.curves.push_back(std::move(curve));
    }
    if (!test.curve) return found;
    found.chart.title = "Touches that cost no read";
    found.chart.axis = "memory, of the weights";
    for (double share : kShares) {
        auto percent =
            static_cast<double>(tiers.capacity_bytes()) * share * 100 / static_cast<double>(weights_bytes);
        found.chart.places.push_back(fmt::format("{:.0f} %", percent));
    }
    return found;
}

std::string view_results(const std::vector<ReplayResult>& results, bool tiered) {
    using enum Table::Align;
    Table table({{"POLICY"},
                 {"HIT", right},
                 {"OF OPTIMUM", right},
                 {"FOUND", right},
                 {tiered ? "IN FASTEST" : "", right},
                 {"READ", right},
                 {"MOVED", right},
                 {"STALL", right},
                 {"CALL", right},
                 {"EPOCH", right}});
    double best = results.back().all.hit_ratio();
    for (const ReplayResult& r : results)
        table.add({r.policy, fmt::format("{:.4f}", r.all.hit_ratio()),
                   best > 0 ? fmt::format("{:.3f}", r.all.hit_ratio() / best) : "-",
                   fmt::format("{:.4f}", r.all.found_ratio()),
                   tiered ? fmt::format("{:.4f}", r.all.fast_ratio()) : "", format_bytes(r.bytes_read),
                   r.bytes_moved > 0 ? format_bytes(r.bytes_moved) : "-", duration(r.all.stall_ns),
                   r.call_p50_ns > 0 ? fmt::format("{} ns", r.call_p50_ns) : "-",
                   r.epoch_p50_ns > 0 ? fmt::format("{} ns", r.epoch_p50_ns) : "-"});
    return table.text();
}

std::string view_models(const std::vector<ReplayResult>& results) {
    using enum Table::Align;
    if (results.front().models.size() < 2) return {};
    Table table({{"POLICY"},
                 {"MODEL"},
                 {"UID", right},
                 {"TOUCHES", right},
                 {"HIT", right},
                 {"FOUND", right},
                 {"STALL", right}});
    for (const ReplayResult& r : results)
        for (const ModelResult& m : r.models)
            table.add({r.policy, m.name, std::to_string(m.uid), std::to_string(m.counts.touches),
                       fmt::format("{:.4f}", m.counts.hit_ratio()),
                       fmt::format("{:.4f}", m.counts.found_ratio()), duration(m.counts.stall_ns)});
    return "\n" + table.text();
}

std::string view_troubles(const std::vector<ReplayResult>& results) {
    std::string out;
    for (const ReplayResult& r : results) {
        if (r.faults > 0)
            out += fmt::format("{}: {} calls failed, or returned what they may not\n", r.policy, r.faults);
        for (const RefusedCount& refused : r.refused)
            out += fmt::format("{}: {} proposals refused: {}\n", r.policy, refused.count, refused.reason);
    }
    return out.empty() ? out : "\n" + out;
}

json counts_json(const ReplayCounts& c) {
    return {{"touches", c.touches},
            {"hit_ratio", c.hit_ratio()},
            {"found_ratio", c.found_ratio()},
            {"fastest_tier_ratio", c.fast_ratio()},
            {"reads", c.reads},
            {"stall_ns", c.stall_ns}};
}

json result_json(const ReplayResult& r) {
    json out = counts_json(r.all);
    out.update({{"policy", r.policy},
                {"capacity_bytes", r.capacity_bytes},
                {"bytes_read", r.bytes_read},
                {"bytes_moved", r.bytes_moved},
                {"moves", r.moves},
                {"reads_ahead", r.reads_ahead},
                {"wasted", r.wasted},
                {"evictions", r.evictions},
                {"total_ns", r.total_ns},
                {"calls", r.calls},
                {"faults", r.faults},
                {"call_p50_ns", r.call_p50_ns},
                {"epoch_p50_ns", r.epoch_p50_ns}});
    out["refused"] = json::object();
    for (const RefusedCount& refused : r.refused) out["refused"][refused.reason] = refused.count;
    for (const ModelResult& m : r.models) {
        json model = counts_json(m.counts);
        model.update({{"model", m.name}, {"uid", m.uid}});
        out["models"].push_back(std::move(model));
    }
    return out;
}

std::string to_json(const Workload& workload, const Findings& found) {
    json out{{"results", json::array()},
             {"places", found.chart.places},
             {"curves", json::object()},
             {"touches_filled_in", workload.unseen},
             {"cant_tell", workload.cant_tell}};
    for (const ReplayResult& r : found.at_capacity) out["results"].push_back(result_json(r));
    for (const Curve& curve : found.chart.curves) out["curves"][curve.name] = curve.values;
    return out.dump(2, ' ', true) + "\n";
}

std::string view(const Workload& workload, const ReplayTiers& tiers, const Findings& found) {
    std::string out = fmt::format(
        "{} touches of {} extents ({}), memory {}{}\n\n", workload.order.size(), workload.extents,
        format_bytes(workload.bytes), format_bytes(tiers.capacity_bytes()),
        workload.unseen == 0
            ? ""
            : fmt::format("; {} of the touches were not seen and are filled in", workload.unseen));
    if (!workload.cant_tell.empty())
        out += fmt::format(
            "This recording can't tell what policies would read. {}.\n"
            "Record again with --complete, or under a budget in which most touches are misses.\n\n",
            workload.cant_tell);
    out += view_results(found.at_capacity, tiers.tiers.size() > 1) + view_models(found.at_capacity);
    out += view_troubles(found.at_capacity);
    if (!found.chart.places.empty()) out += "\n" + draw_text(found.chart);
    return out;
}

Result<ReplayTiers> tiers_of(const PolicyTest& test, const Workload& workload) {
    if (!test.tiers.empty()) return read_tiers(test.tiers, workload.bytes);
    return plain_tiers(workload.bytes / 2);
}

}  // namespace

Output run_policy_test(const PolicyTest& test) {
    auto trace = read_trace(test.trace);
    if (!trace) return std::unexpected(failure(trace.error()));
    auto workload = make_workload(*trace);
    if (!workload) return std::unexpected(failure(workload.error()));
    if (workload->order.empty())
        return std::unexpected(Failure{Exit::usage, test.trace + " holds no touch of any extent"});
    auto tiers = tiers_of(test, *workload);
    if (!tiers) return std::unexpected(failure(tiers.error()));
    auto all = contenders(test, *workload);
    if (!all) return std::unexpected(all.error());
    auto found = play(test, *all, *tiers, workload->bytes);
    if (!found) return std::unexpected(failure(found.error()));
    if (!test.svg.empty()) {
        std::ofstream file(test.svg, std::ios::binary);
        file << draw_svg(found->chart);
        if (!file.flush()) return std::unexpected(Failure{Exit::failed, "could not write " + test.svg});
    }
    return test.as_json ? to_json(*workload, *found) : view(*workload, *tiers, *found);
}

void add_policy_test(CLI::App& policy, Chosen& chosen) {
    auto test = std::make_shared<PolicyTest>();
    CLI::App* verb = policy.add_subcommand(
        "test", "Try policies on a trace, beside LRU and the clairvoyant optimum. Needs no tierd");
    verb->add_option("TRACE", test->trace, "A file as docs/trace-format.md describes it")->required();
    verb->add_option(
            "--policy", test->policies,
            "A name that `tierctl policy list` shows, an object's path, or builtin:auto; may be repeated")
        ->required()
        ->allow_extra_args(false);
    verb->add_option("--set", test->sets, "Set a knob of each policy: --set depth=4")
        ->allow_extra_args(false);
    verb->add_option("--tiers", test->tiers,
                     "The memory to model, as TOML; else DRAM for half of the weights");
    verb->add_option("--svg", test->svg, "Write the chart there too");
    verb->add_flag("!--no-chart", test->curve, "Only at this capacity: faster");
    verb->add_flag("--json", test->as_json, "Print the figures as JSON");
    verb->callback([&chosen, test] { chosen = [test](const Client&) { return run_policy_test(*test); }; });
}

}  // namespace tierd
