#include "cli/tierctl/policy_verbs.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>

#include "cli/tierctl/places.h"
#include "cli/tierctl/policy_view.h"
#include "cli/tierctl/text.h"
#include "lib/base/base64.h"
#include "lib/policy/bpf_object.h"

namespace tierd {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

struct PolicyCommandLine {
    std::string policy;             // a name, or the path of an object
    std::vector<std::string> sets;  // "knob=value"
    bool as_json = false;
    bool verbose = false;
};

constexpr std::string_view kEnding = ".bpf.o";
constexpr uint32_t kCheckedRows = 1024;

std::unexpected<Failure> failed(const Error& error) {
    return std::unexpected(Failure{Exit::failed, error.text()});
}

std::vector<std::string> installed_policies() {
    std::vector<std::string> paths;
    std::error_code error;
    for (const fs::directory_entry& entry : fs::directory_iterator(policy_folder(), error))
        if (entry.path().string().ends_with(kEnding)) paths.push_back(entry.path());
    std::ranges::sort(paths);
    return paths;
}

}  // namespace

Result<ObjectFile> find_object(const std::string& policy) {
    if (policy.find('/') != policy.npos || policy.ends_with(".o")) return read_object(policy);
    std::string path = policy_folder() + "/" + policy + std::string(kEnding);
    if (fs::exists(path)) return read_object(path);
    return fail(Code::not_found, "find policy", policy,
                fmt::format("`tierctl policy list` shows those in {}; or give the path of an object",
                            policy_folder()));
}

std::expected<std::vector<Knob>, Failure> read_sets(const std::vector<std::string>& sets) {
    std::vector<Knob> knobs;
    for (const std::string& set : sets) {
        size_t equals = set.find('=');
        if (equals == 0 || equals == set.npos)
            return std::unexpected(Failure{Exit::usage, fmt::format("--set {}: write knob=value", set)});
        knobs.push_back({set.substr(0, equals), set.substr(equals + 1)});
    }
    return knobs;
}

namespace {

json knobs_json(const std::vector<Knob>& knobs) {
    json list = json::object();
    for (const Knob& knob : knobs) list[knob.name] = knob.value;
    return list;
}

json hooks_json(const ObjectSummary& summary) {
    json list = json::array();
    for (Hook hook : summary.hooks) list.push_back(hook_name(hook));
    return list;
}

std::string as_text(const json& value) {
    return value.dump(2, ' ', true) + "\n";
}

Output run_list(const PolicyCommandLine& line, const Client& /*client*/) {
    Table table({{"POLICY"}, {"LICENCE"}, {"HOOKS"}, {"KNOBS"}});
    json list = json::array();
    for (const std::string& path : installed_policies()) {
        auto file = read_object(path);
        auto told = file ? describe_object(*file) : std::unexpected(file.error());
        if (!told) {
            table.add({file ? file->name : path, "-", "can't be used: " + told.error().text(), "-"});
            continue;
        }
        table.add({file->name, told->summary.licence, hook_names(told->summary), knob_text(told->knobs)});
        list.push_back({{"name", file->name},
                        {"path", path},
                        {"licence", told->summary.licence},
                        {"hooks", hooks_json(told->summary)},
                        {"knobs", knobs_json(told->knobs)}});
    }
    return line.as_json ? as_text({{"policies", std::move(list)}}) : table.text();
}

// Loads through the verifier, against tables of its own, and lets go again.
Output run_check(const PolicyCommandLine& line, const Client& /*client*/) {
    auto knobs = read_sets(line.sets);
    if (!knobs) return std::unexpected(knobs.error());
    auto file = find_object(line.policy);
    if (!file) return failed(file.error());
    auto tables = BpfTables::make(kCheckedRows);
    if (!tables) return failed(tables.error());
    std::string log;
    auto object = BpfObject::load(*file, *knobs, *tables, &log);
    if (!object) {
        if (line.verbose) fmt::print("{}", log);
        return failed(object.error());
    }
    const ObjectSummary& summary = (*object)->summary();
    if (line.as_json)
        return as_text({{"name", file->name},
                        {"licence", summary.licence},
                        {"hooks", hooks_json(summary)},
                        {"knobs", knobs_json((*object)->knobs())},
                        {"verified_instructions", (*object)->verified_insns()},
                        {"map_bytes", (*object)->own_map_bytes()}});
    return fmt::format("{}: the verifier takes it ({} instructions); hooks {}; knobs {}; licence {}\n",
                       escape(file->name), (*object)->verified_insns(), hook_names(summary),
                       knob_text((*object)->knobs()), escape(summary.licence));
}

Output show(const PolicyCommandLine& line, const Answer& answer, const std::string& text) {
    if (!answer) return std::unexpected(answer.error());
    return line.as_json ? as_text(*answer) : text;
}

// Opened here first: whatever is wrong with the file is this process's trouble and not tierd's.
Output run_load(const PolicyCommandLine& line, const Client& client) {
    auto knobs = read_sets(line.sets);
    if (!knobs) return std::unexpected(knobs.error());
    auto file = find_object(line.policy);
    if (!file) return failed(file.error());
    auto told = describe_object(*file);
    if (!told) return failed(told.error());
    Answer answer = client.call(
        "PUT", "/v1/policy",
        json{{"name", file->name}, {"object", to_base64(file->bytes)}, {"knobs", knobs_json(*knobs)}}.dump());
    return show(line, answer,
                fmt::format("{} decides now (hooks {}); `tierctl policy status` shows how it does\n",
                            escape(file->name), hook_names(told->summary)));
}

Output run_status(const PolicyCommandLine& line, const Client& client) {
    Answer answer = client.call("GET", "/v1/policy");
    return show(line, answer, answer ? view_policy(*answer) : "");
}

Output run_unload(const PolicyCommandLine& line, const Client& client) {
    Answer answer = client.call("DELETE", "/v1/policy");
    return show(
        line, answer,
        answer ? fmt::format("{} decides again\n", escape(answer->at("name").get<std::string>())) : "");
}

struct Row {
    const char* name;
    const char* help;
    bool takes_policy;
    Output (*run)(const PolicyCommandLine& line, const Client& client);
};
// clang-format off
constexpr Row kVerbs[] = {
    {"list",   "The policies that are installed: hooks and knobs of each. Needs no tierd", false, run_list},
    {"check",  "Would the kernel take it? The verifier's complaint, at its source line. Needs no tierd", true, run_check},
    {"load",   "Let it decide, in the place of what does now", true, run_load},
    {"status", "Which policy decides, what its calls cost, what became of its decisions", false, run_status},
    {"unload", "Take it back: the built-in policy decides again", false, run_unload},
};
// clang-format on

}  // namespace

void add_policy_verbs(CLI::App& policy, Chosen& chosen) {
    auto line = std::make_shared<PolicyCommandLine>();
    for (const Row& row : kVerbs) {
        CLI::App* verb = policy.add_subcommand(row.name, row.help);
        verb->add_flag("--json", line->as_json, "Print the answer as JSON");
        verb->callback([&chosen, &row, line] {
            chosen = [&row, line](const Client& client) { return row.run(*line, client); };
        });
        if (!row.takes_policy) continue;
        verb->add_option("POLICY", line->policy,
                         "A name that `tierctl policy list` shows, or the path of an object")
            ->required();
        verb->add_option("--set", line->sets, "Set a knob: --set depth=4")->allow_extra_args(false);
    }
    policy.get_subcommand("check")->add_flag("--verbose", line->verbose,
                                             "Print the verifier's whole log too");
}

}  // namespace tierd
