// main.cc - tierctl: the control API for people and scripts. docs/tierctl.md describes it.
//
// Owns:      the command line and the exit status.
// Fails:     with a line on stderr and one of the statuses of enum Exit.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>

#include "cli/tierctl/client.h"
#include "cli/tierctl/doctor.h"
#include "cli/tierctl/policy_commands.h"
#include "cli/tierctl/preload.h"
#include "cli/tierctl/replay_command.h"
#include "cli/tierctl/text.h"
#include "cli/tierctl/trace_record.h"
#include "cli/tierctl/view.h"
#include "cli/tierctl/view_heat.h"
#include "lib/base/bytes.h"

namespace tierd {
namespace {

using nlohmann::json;

constexpr auto kExamples = R"(Examples:
  tierctl status                           what runs, memory in use, faults, reads
  tierctl models                           the weight files and how much of each is in memory
  tierctl tensors gemma.gguf --tensors     where each tensor is
  tierctl preload /models/gemma.gguf       read it into memory, and wait for the end
  tierctl pin gemma.gguf                   never evict it
  tierctl tier drain cxl2                  empty a memory tier while engines run
  tierctl budget 48GiB                     give weights at most so much memory
  tierctl policy build rules.toml          make a placement policy
  tierctl policy load fifo                 let it decide what is evicted and read ahead
  tierctl trace record day.trace           what happens to extents, until Ctrl-C
  tierctl policy test day.trace --policy fifo   what would it have read, beside LRU and Belady
  tierctl doctor /models                   can this machine serve weights, and what would help
  tierctl models --json | jq '.models[].name'

Exit status: 0 done, 1 tierd could not do it, 2 the command line is wrong, 3 tierd can't be reached.)";

struct Options {
    std::string socket = "/run/tierd/control.sock";
    std::string model;
    std::string size;
    std::string weights;
    json tier = json::object();  // the settings of a tier that were given
    std::string name;
    uint64_t job = 0;
    bool as_json = false;
    bool no_wait = false;
    bool each_tensor = false;
    bool histogram = false;
    bool pause = false;
    bool resume = false;
    bool slowest = false;
    std::string by = "tensor";
    std::string recording;
    std::vector<std::string> named_weights;
    std::string models;
    std::string svg;
    size_t top = 30;
};

// A name goes as it is; what has a slash is a path, and tierd stands in another folder than we.
std::string model_argument(const std::string& argument) {
    std::filesystem::path path(argument);
    if (argument.find('/') == std::string::npos) return argument;
    bool goes_up = std::ranges::find(path, "..") != path.end();
    std::error_code error;
    auto folder = goes_up ? std::filesystem::canonical(path.parent_path(), error) : path.parent_path();
    if (error) return argument;
    return std::filesystem::absolute(folder / path.filename()).lexically_normal();
}

std::string model_target(const Options& options, const char* what) {
    return fmt::format("/v1/models/{}/{}", percent_encode(model_argument(options.model)), what);
}

// What a command prints, or why it failed.
using Output = std::expected<std::string, Failure>;

Output show(const Options& options, const Answer& answer,
            const std::function<std::string(const json&)>& view) {
    if (!answer) return std::unexpected(answer.error());
    // Only ASCII: names from outside must not reach the terminal as control characters through this door
    // either.
    if (options.as_json) return answer->dump(2, ' ', true) + "\n";
    return view(*answer);
}

Output show_job(const Options& options, const Answer& answer) {
    return show(options, answer, [](const json& job) {
        bool goes_on = !job.at("finished").get<bool>();
        return fmt::format("{}: {} of {}{}\n", escape(job.at("what").get<std::string>()),
                           format_bytes(job.at("done_bytes").get<uint64_t>()),
                           format_bytes(job.at("total_bytes").get<uint64_t>()),
                           goes_on ? fmt::format(", goes on as job {}", job.at("job").get<uint64_t>()) : "");
    });
}

Output run_preload(const Options& options, const Client& client) {
    return show_job(options, preload(client, model_argument(options.model), !options.no_wait));
}

std::string view_one_tier(const json& tier) {
    return view_tiers({{"tiers", json::array({tier})}});
}

std::string tier_target(const Options& options) {
    return "/v1/tiers/" + percent_encode(options.name);
}

Output run_tier_add(const Options& options, const Client& client) {
    json request = options.tier;
    request["name"] = options.name;
    return show(options, client.call("POST", "/v1/tiers", request.dump()), view_one_tier);
}

Output run_tier_resize(const Options& options, const Client& client) {
    auto bytes = parse_bytes(options.size);
    if (!bytes) return std::unexpected(Failure{Exit::usage, bytes.error().text()});
    return show(options, client.call("PUT", tier_target(options), json{{"capacity_bytes", *bytes}}.dump()),
                view_one_tier);
}

Output run_tier_drain(const Options& options, const Client& client) {
    return show_job(
        options, follow_job(client, client.call("POST", tier_target(options) + "/drain"), !options.no_wait));
}

Output run_tier_remove(const Options& options, const Client& client) {
    return show_job(options,
                    follow_job(client, client.call("DELETE", tier_target(options)), !options.no_wait));
}

Output run_cancel(const Options& options, const Client& client) {
    return show_job(options, client.call("DELETE", fmt::format("/v1/jobs/{}", options.job)));
}

Output run_evict(const Options& options, const Client& client) {
    return show(options, client.call("POST", model_target(options, "evict")), [&](const json& answer) {
        return fmt::format("{}: dropped {}\n", escape(options.model),
                           format_bytes(answer.at("evicted_bytes").get<uint64_t>()));
    });
}

Output run_budget(const Options& options, const Client& client) {
    auto bytes = parse_bytes(options.size);
    if (!bytes) return std::unexpected(Failure{Exit::usage, bytes.error().text()});
    return show(options, client.call("PUT", "/v1/budget", json{{"bytes", *bytes}}.dump()),
                [](const json& status) {
                    return fmt::format("budget {}, in memory {}\n",
                                       format_bytes(status.at("budget_bytes").get<uint64_t>()),
                                       format_bytes(status.at("resident_bytes").get<uint64_t>()));
                });
}

json as_json_value(const std::vector<Finding>& findings) {
    json list = json::array();
    for (const Finding& one : findings)
        list.push_back({{"what", one.what},
                        {"health", health_name(one.health)},
                        {"found", one.found},
                        {"remedy", one.remedy}});
    return {{"findings", std::move(list)}};
}

// What the machine offers, and what a running tierd says that it could not have.
Output run_doctor(const Options& options, const Client& client) {
    std::vector<Finding> findings = examine_machine(options.weights);
    if (Answer status = client.call("GET", "/v1/status")) {
        for (const json& note : status->at("notes"))
            findings.push_back({"tierd", Health::lesser, note.get<std::string>(), ""});
    } else {
        findings.push_back({"tierd", Health::lesser, status.error().text, ""});
    }
    std::string text =
        options.as_json ? as_json_value(findings).dump(2, ' ', true) + "\n" : view_findings(findings);
    bool bad = std::ranges::any_of(findings, [](const Finding& one) { return one.health == Health::bad; });
    if (!bad) return text;
    fmt::print("{}", text);
    return std::unexpected(Failure{Exit::failed, "this machine can't serve weights as it is"});
}

// What tierd served while it was recorded: from the file that was kept, else from a tierd that still runs; null: unknown.
json models_of_recording(const Options& options, const Client& client) {
    if (options.models.empty()) return client.call("GET", "/v1/models").value_or(json());
    std::ifstream in(options.models);
    return json::parse(in, nullptr, false);
}

Output run_hot(const Options& options, const Client& client) {
    Answer answer = json();
    if (options.recording.empty()) {
        answer = client.call("GET", "/v1/hot/" + percent_encode(options.by));
    } else {
        json models = models_of_recording(options, client);
        auto read = hot_from_file(options.recording, options.by, options.named_weights, models);
        if (!read) return std::unexpected(Failure{Exit::failed, read.error().text()});
        answer = std::move(*read);
    }
    if (answer && options.by == "function") name_functions(*answer);
    return show(options, answer, [&](const json& rows) { return view_hot(rows, options.top); });
}

Output run_sources(const Options& options, const Client& client) {
    if (!options.pause && !options.resume)
        return show(options, client.call("GET", "/v1/sources"), view_sources);
    const json request = {{"paused", options.pause}};
    return show(options, client.call("PUT", "/v1/sources", request.dump()), view_sources);
}

Output run_heatmap(const Options& options, const Client& client) {
    Answer answer = client.call("GET", model_target(options, "heatmap"));
    if (!answer || options.svg.empty())
        return show(options, answer, [](const json& map) {
            return view_heatmap(map, {.colour = ::isatty(STDOUT_FILENO) != 0});
        });
    std::ofstream out(options.svg);
    out << svg_heatmap(*answer);
    out.close();
    if (!out)
        return std::unexpected(
            Failure{Exit::failed, fmt::format("write {}: {}", options.svg, std::strerror(errno))});
    return fmt::format("{}: {} extents\n", options.svg, answer->at("extents").size());
}

struct Command {
    const char* name;
    const char* help;
    const char* argument;  // "MODEL", "SIZE", "WEIGHTS" or none
    Output (*run)(const Options& options, const Client& client);
};

using Opt = const Options&;
using Cli = const Client&;
// clang-format off
constexpr Command kCommands[] = {
    {"status",   "What runs, memory in use, faults, reads, what this machine can't do", nullptr,
        [](Opt o, Cli c) { return show(o, c.call("GET", "/v1/status"), view_status); }},
    {"models",   "The weight files and how much of each is in memory", nullptr,
        [](Opt o, Cli c) { return show(o, c.call("GET", "/v1/models"), view_models); }},
    {"sessions", "The attached processes", nullptr,
        [](Opt o, Cli c) { return show(o, c.call("GET", "/v1/sessions"), view_sessions); }},
    {"tiers",    "The places that weights live in: capacity and use", nullptr,
        [](Opt o, Cli c) { return show(o, c.call("GET", "/v1/tiers"), view_tiers); }},
    {"faults",   "Where the time of faults went, by stage", nullptr,
        [](Opt o, Cli c) { return show(o, c.call("GET", "/v1/faults"), [&](const json& a) { return o.slowest ? view_slowest_fault(a) : view_faults(a, o.histogram); }); }},
    {"tensors",  "What of a model is in memory, by layer", "MODEL",
        [](Opt o, Cli c) { return show(o, c.call("GET", model_target(o, "tensors")), [&](const json& a) { return view_tensors(a, o.each_tensor); }); }},
    {"sources",  "Where statistics of accesses come from: what this machine offers, what is used, and why not the better", nullptr,
        run_sources},
    {"hot",      "What is touched most", nullptr, run_hot},
    {"heatmap",  "The heat and the place of each extent of a model, by layer", "MODEL", run_heatmap},
    {"preload",  "Read a model into memory, up to the budget; interrupting tierctl does not stop it", "MODEL", run_preload},
    {"pin",      "Never evict a model's extents (reads nothing: combine with preload)", "MODEL",
        [](Opt o, Cli c) { return show(o, c.call("POST", model_target(o, "pin")), view_model_line); }},
    {"unpin",    "Let a model's extents be evicted again", "MODEL",
        [](Opt o, Cli c) { return show(o, c.call("POST", model_target(o, "unpin")), view_model_line); }},
    {"evict",    "Drop what of a model is in memory and not pinned", "MODEL", run_evict},
    {"doctor",   "Can this machine serve weights, and what would help? Needs no tierd", "WEIGHTS", run_doctor},
    {"cancel",   "End a job (preload, drain) before its time", "JOB", run_cancel},
    {"budget",   "Give weights at most this much memory, until tierd ends", "SIZE", run_budget},
};
constexpr Command kTierCommands[] = {
    {"add",    "Take a memory tier into use: one that was found, a node's memory, or a declared one; or open a drained one", "NAME", run_tier_add},
    {"resize", "Give a tier another capacity; what is too much moves or is dropped", "NAME", run_tier_resize},
    {"drain",  "Empty a tier and place nothing in it; interrupting tierctl does not stop it", "NAME", run_tier_drain},
    {"remove", "Empty a tier and forget it", "NAME", run_tier_remove},
};
// clang-format on

// `tierctl tier …`
void add_tier_commands(CLI::App& app, Options& options, const Command*& chosen) {
    CLI::App* group = app.add_subcommand("tier", "Change the memory tiers while engines run");
    group->require_subcommand(1);
    for (const Command& command : kTierCommands) {
        CLI::App* sub = group->add_subcommand(command.name, command.help);
        sub->add_flag("--json", options.as_json, "Print tierd's answer as JSON (docs/openapi.json)");
        sub->add_option("NAME", options.name, "Such as cxl2, as `tierctl tiers` shows it")->required();
        sub->callback([&chosen, &command] { chosen = &command; });
    }
    CLI::App* add = group->get_subcommand("add");
    auto text = [&](const char* option, const char* key, const char* help) {
        add->add_option_function<std::string>(
            option, [&options, key](const std::string& value) { options.tier[key] = value; }, help);
    };
    auto number = [&](const char* option, const char* key, const char* help) {
        add->add_option_function<uint64_t>(
            option, [&options, key](const uint64_t& value) { options.tier[key] = value; }, help);
    };
    text("--kind", "kind", "hbm, dram or cxl");
    number("--node", "node", "The memory node; without one the tier is only declared");
    text("--capacity", "capacity_bytes", "Memory for weights, such as 64GiB");
    number("--latency-ns", "latency_ns", "Of a read");
    text("--bandwidth", "bandwidth_bytes_per_s", "Of reading, a second: 30GiB");
    group->get_subcommand("resize")->add_option("SIZE", options.size, "Such as 48GiB")->required();
    for (const char* name : {"drain", "remove"})
        group->get_subcommand(name)->add_flag("--no-wait", options.no_wait, "Start it and return at once");
}

void add_commands(CLI::App& app, Options& options, const Command*& chosen) {
    for (const Command& command : kCommands) {
        CLI::App* sub = app.add_subcommand(command.name, command.help);
        sub->add_flag("--json", options.as_json, "Print tierd's answer as JSON (docs/openapi.json)");
        std::string_view argument = command.argument == nullptr ? "" : command.argument;
        if (argument == "MODEL")
            sub->add_option("MODEL", options.model,
                            "Name, path, or number of a file, as `tierctl models` shows them")
                ->required();
        if (argument == "JOB")
            sub->add_option("JOB", options.job, "Its number, as printed with --no-wait")->required();
        if (argument == "SIZE") sub->add_option("SIZE", options.size, "Such as 48GiB or 512MiB")->required();
        if (argument == "WEIGHTS")
            sub->add_option("WEIGHTS", options.weights,
                            "A weight file, or a folder of them, whose disk to check");
        sub->callback([&chosen, &command] { chosen = &command; });
    }
    app.get_subcommand("tensors")->add_flag("--tensors", options.each_tensor, "Show each tensor too");
    CLI::App* hot = app.get_subcommand("hot");
    hot->add_option("--by", options.by, "Grouping of the rows")
        ->check(CLI::IsMember({"tensor", "layer", "expert", "extent", "function", "thread"}))
        ->capture_default_str();
    hot->add_option("--top", options.top, "Number of rows")->capture_default_str();
    hot->add_option("--from", options.recording,
                    "Read a recording of `perf record -d`, or a trace, instead of asking tierd");
    hot->add_option("--weights", options.named_weights,
                    "Names of weight files in the recording, beside *.gguf and *.safetensors");
    hot->add_option("--models", options.models,
                    "Output of `tierctl models --json` during the recording, if that tierd has ended")
        ->check(CLI::ExistingFile);
    app.get_subcommand("heatmap")->add_option("--svg", options.svg,
                                              "Write it as an SVG picture to this file");
    app.get_subcommand("faults")->add_flag("--histogram", options.histogram,
                                           "Show the distribution of the times");
    CLI::App* sources = app.get_subcommand("sources");
    auto* pause = sources->add_flag("--pause", options.pause,
                                    "Sample and hint nothing until --resume or the end of tierd");
    sources->add_flag("--resume", options.resume, "Resume after --pause")->excludes(pause);
    app.get_subcommand("faults")->add_flag("--slowest", options.slowest,
                                           "Show the slowest fault, stage by stage");
    app.get_subcommand("preload")->add_flag("--no-wait", options.no_wait, "Start it and return at once");
}

int run(int argc, char** argv) {
    CLI::App app("Shows and changes the state of tierd, the memory manager for model weights.", "tierctl");
    Options options;
    const Command* chosen = nullptr;
    app.footer(kExamples);
    app.set_version_flag("--version", std::string("tierctl " TIERD_VERSION));
    app.add_option("--socket", options.socket, "tierd's control socket")
        ->envname("TIERD_CONTROL_SOCKET")
        ->capture_default_str();
    app.require_subcommand(1);
    app.fallthrough();  // --socket may stand behind the command too
    add_commands(app, options, chosen);
    Chosen chosen_other;
    add_policy_commands(app, chosen_other);
    add_trace_commands(app, chosen_other);
    add_tier_commands(app, options, chosen);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? static_cast<int>(Exit::ok) : static_cast<int>(Exit::usage);
    }
    Client client(options.socket);
    Output output = chosen_other ? chosen_other(client) : chosen->run(options, client);
    if (!output) {
        fmt::print(stderr, "tierctl: {}\n", escape(output.error().text));
        return static_cast<int>(output.error().exit);
    }
    if (std::fwrite(output->data(), 1, output->size(), stdout) != output->size() ||
        std::fflush(stdout) != 0) {
        fmt::print(stderr, "tierctl: cannot write the output: {}\n", std::strerror(errno));
        return static_cast<int>(Exit::failed);
    }
    return static_cast<int>(Exit::ok);
}

}  // namespace
}  // namespace tierd

int main(int argc, char** argv) {
    try {
        return tierd::run(argc, argv);
    } catch (const nlohmann::json::exception& trouble) {
        fmt::print(
            stderr,
            "tierctl: tierd's answer is not what this version expects ({}); are both of one version?\n",
            tierd::escape(trouble.what()));
    } catch (const std::exception& trouble) {
        fmt::print(stderr, "tierctl: {}\n", tierd::escape(trouble.what()));
    }
    return static_cast<int>(tierd::Exit::failed);
}
