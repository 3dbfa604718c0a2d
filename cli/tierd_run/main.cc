// main.cc - tierd-run: runs one command with tierd's memory for its weights, and never worse than without.
//
// Invariant: the command always runs, if it can run at all, and its exit status is tierd-run's: 128 + signal
//            when a signal ended it, 127 when it was not found, 126 when it could not be run. 125:
//            tierd-run's own command line is wrong.
// Fails:     what keeps tierd from serving is said in one line; the command then runs on the kernel's
//            mappings.
#include <fmt/format.h>
#include <poll.h>
#include <sys/wait.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>

#include "cli/tierd_run/child.h"
#include "cli/tierd_run/daemon_client.h"
#include "cli/tierd_run/environment.h"
#include "cli/tierd_run/private_daemon.h"
#include "lib/session/wire.h"

namespace {

using namespace tierd;
using namespace tierd::run;

constexpr int kOwnFault = 125, kCannotRun = 126, kNotFound = 127, kSignalBase = 128;

struct Options {
    std::string socket;
    DaemonPlan daemon;
    bool wants_private = false;
    std::vector<std::string> match;
    std::string report;
    std::vector<std::string> command;
};

template <class... Parts>
void report(fmt::format_string<Parts...> text, Parts&&... parts) {
    fmt::print(stderr, "tierd-run: {}\n", fmt::format(text, std::forward<Parts>(parts)...));
}

std::string from_environment(const char* name, const char* otherwise) {
    const char* value = std::getenv(name);
    return value != nullptr && *value != '\0' ? value : otherwise;
}

void read_options(CLI::App& app, Options& options, int argc, char** argv) {
    options.socket = from_environment("TIERD_SOCKET", wire::kDefaultSocket);
    app.add_option("--socket", options.socket, "socket of the tierd to use, if it answers")
        ->capture_default_str();
    app.add_option("--budget", options.daemon.budget, "a private tierd with this much memory: 2GiB, or 75%");
    app.add_option("--policy", options.daemon.policy, "a private tierd with this policy: auto, lru or sweep");
    app.add_option("--huge-pages", options.daemon.huge_pages,
                   "a private tierd with these pages: auto, hugetlb, thp or off");
    app.add_flag("--private", options.wants_private, "a private tierd, even if the system's answers");
    app.add_option("--match", options.match, "pattern of further weight files; may be repeated");
    app.add_option("--report", options.report, "write tierd's status at the end to this file, as JSON");
    app.add_flag("-v,--verbose", options.daemon.verbose,
                 "say which tierd is used and show a private one's log");
    app.set_version_flag("--version", TIERD_VERSION);
    app.footer("Usage: tierd-run [options] -- command [arguments]");
    char** dashes =
        std::find_if(argv + 1, argv + argc, [](const char* word) { return std::string_view(word) == "--"; });
    app.parse(static_cast<int>(dashes - argv), argv);
    if (dashes < argv + argc) options.command.assign(dashes + 1, argv + argc);
    if (options.command.empty()) throw CLI::RequiredError("the command, after --,");
    for (const std::string& asked : {options.daemon.budget, options.daemon.policy, options.daemon.huge_pages})
        options.wants_private = options.wants_private || !asked.empty();
}

// What this daemon can't do here, in one line; nothing when it can do all.
void say_limits(const std::string& control_socket) {
    auto status = fetch_status(control_socket);
    if (!status) return;
    auto parsed = nlohmann::json::parse(*status, nullptr, false);
    if (!parsed.is_object() || !parsed["notes"].is_array() || parsed["notes"].empty()) return;
    std::string all;
    for (const auto& note : parsed["notes"])
        if (note.is_string()) all += (all.empty() ? "" : "; ") + note.get<std::string>();
    report("private tierd: {}", all);
}

void write_report(const std::string& file, const std::string& control_socket) {
    auto status = fetch_status(control_socket);
    if (!status) return report("no report: {}", status.error().text());
    std::ofstream out(file);
    out << *status << '\n';
    out.close();
    if (!out) report("can't write the report to {}", file);
}

// Waits for the command's end and hands on what signals come. Returns tierd-run's exit status.
int attend(Child& command, const Signals& signals) {
    while (true) {
        pollfd wanted[] = {{command.pidfd(), POLLIN, 0}, {signals.fd(), POLLIN, 0}};
        ::poll(wanted, 2, -1);
        while (auto signal = signals.take())
            if (!signal->from_terminal) command.send(signal->number);
        if (auto status = command.wait(0))
            return WIFSIGNALED(*status) ? kSignalBase + WTERMSIG(*status) : WEXITSTATUS(*status);
    }
}

int run_command(const Options& options, const std::vector<std::string>& environment, const Signals& signals) {
    if (auto signal = signals.take()) return kSignalBase + signal->number;  // asked to stop before it began
    auto command = Child::spawn({.argv = options.command, .environment = environment}, signals);
    if (command) return attend(*command, signals);
    report("{}", command.error().text());
    return command.error().code == Code::not_found ? kNotFound : kCannotRun;
}

int run_connected(const Options& options, const Connection& connection, const Signals& signals) {
    int status = run_command(options, environment_of_command(connection), signals);
    if (!options.report.empty()) write_report(options.report, connection.control_socket);
    return status;
}

int run_plain(const Options& options, const Signals& signals, const std::string& why) {
    report("without tierd: {}", why);
    return run_command(options, environment(), signals);
}

int run_private(Options& options, const std::string& shim, const Signals& signals) {
    options.daemon.program = find_daemon();
    if (options.daemon.program.empty())
        return run_plain(options, signals, "no tierd beside this program or in PATH");
    auto daemon = PrivateDaemon::start(options.daemon, signals);
    if (!daemon && daemon.error().code == Code::bad_config) {
        report("{}", daemon.error().text());
        return kOwnFault;
    }
    if (!daemon) return run_plain(options, signals, daemon.error().text());
    if (options.daemon.verbose) report("private tierd at {}", daemon->socket());
    say_limits(daemon->control_socket());
    return run_connected(options, {shim, daemon->socket(), daemon->control_socket(), options.match}, signals);
}

int run_with_tierd(Options& options, const Signals& signals) {
    std::string shim = find_shim();
    if (shim.empty())
        return run_plain(options, signals, "libtierd_shim.so is not in ../lib beside this program");
    if (shim.find_first_of(": ") != std::string::npos)
        return run_plain(options, signals, shim + " can't be preloaded: a colon or a space in its path");
    if (options.wants_private || !answers(options.socket)) return run_private(options, shim, signals);
    if (options.daemon.verbose) report("using the tierd at {}", options.socket);
    std::string control = from_environment("TIERD_CONTROL_SOCKET", "/run/tierd/control.sock");
    return run_connected(options, {shim, options.socket, control, options.match}, signals);
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app{
        "Runs a command with tierd: the system's where it answers, otherwise a private one for its "
        "lifetime."};
    Options options;
    try {
        read_options(app, options, argc, argv);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? EXIT_SUCCESS : kOwnFault;
    }
    auto signals = Signals::block();
    if (!signals) {
        report("{}", signals.error().text());
        return kOwnFault;
    }
    return run_with_tierd(options, *signals);
}
