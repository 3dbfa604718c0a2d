// main.cc - joins the daemon's parts: configuration, engine, session server, control API, systemd. Decides
// nothing.
#include <fmt/format.h>
#include <grp.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <sys/resource.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <map>

#include "daemon/api.h"
#include "daemon/config.h"
#include "daemon/log.h"
#include "daemon/rights.h"
#include "lib/engine/engine.h"
#include "lib/session/server.h"
#include "lib/tier/probe.h"

namespace {

using namespace tierd;

struct CommandLine {
    std::string config_file;
    std::map<std::string, std::string> overrides;  // configuration key → value
    int ready_fd = -1;
};

constexpr const char* kDefaultConfig = "/etc/tierd/tierd.toml";
constexpr uint32_t kStopPatienceMs = 1000;

CommandLine read_command_line(CLI::App& app, int argc, char** argv) {
    CommandLine line;
    app.add_option("--config", line.config_file,
                   fmt::format("configuration file (default {}, when it is there)", kDefaultConfig));
    const std::array<std::array<const char*, 3>, 8> kOptions = {{
        {"--socket", "session.socket", "where engines connect"},
        {"--control-socket", "control.socket", "where tierctl connects"},
        {"--budget", "memory.budget", "memory for weights: 2GiB, or 75%"},
        {"--extent", "memory.extent", "unit of placement, 64KiB to 2MiB"},
        {"--huge-pages", "memory.huge_pages", "auto, hugetlb, thp or off"},
        {"--policy", "policy.name", "auto, lru or sweep"},
        {"--state-dir", "state.directory", "where learned orders are kept"},
        {"--log-level", "log.level", "trace, debug, info, warning or error"},
    }};
    for (auto& [option, key, help] : kOptions)
        app.add_option_function<std::string>(
            option,
            [&line, name = std::string(key)](const std::string& value) { line.overrides[name] = value; },
            help);
    app.add_option("--ready-fd", line.ready_fd, "descriptor that gets a line when sessions can connect");
    app.set_version_flag("--version", TIERD_VERSION);
    app.parse(argc, argv);
    return line;
}

Result<Config> configure(const CommandLine& line) {
    Config config;
    std::string file = line.config_file;
    if (file.empty() && ::access(kDefaultConfig, R_OK) == 0) file = kDefaultConfig;
    if (!file.empty()) {
        auto loaded = load_config(file);
        if (!loaded) return loaded;
        config = std::move(*loaded);
    }
    for (auto& [key, value] : line.overrides)
        if (auto set = apply_override(config, key, value); !set) return std::unexpected(set.error());
    return config;
}

// Many models and sessions need many descriptors.
void raise_descriptor_limit() {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
}

Fd systemd_socket() {
    if (::sd_listen_fds(1) < 1) return {};
    int fd = SD_LISTEN_FDS_START;
    return Fd(::sd_is_socket_unix(fd, SOCK_SEQPACKET, 1, nullptr, 0) > 0 ? fd : -1);
}

std::vector<NamedValue> knobs(const PolicyConfig& policy) {
    std::vector<NamedValue> list;
    for (const std::string& knob : policy.knobs) {
        size_t equals = knob.find('=');
        list.push_back({knob.substr(0, equals), knob.substr(equals + 1)});
    }
    return list;
}

// The memory of the nodes that have processors, or what the control group leaves of it: of that the budget is a share.
uint64_t system_memory_bytes(const Topology& topology) {
    uint64_t bytes = 0;
    for (const MemoryNode& node : topology.nodes)
        if (node.has_cpus) bytes += node.total_bytes;
    return std::min(bytes, usable_ram_bytes());
}

Result<std::vector<TierSpec>> tiers_of(const Config& config, const Topology& topology) {
    uint64_t budget = budget_bytes(config.memory.budget, system_memory_bytes(topology));
    auto found = class_tiers(topology, budget, config.tiers.share_percent, probe_node);
    if (!config.tiers.discover)
        std::erase_if(found, [](const TierSpec& tier) { return tier.name != "dram0"; });
    return merge_tiers(std::move(found), config.tiers.said, topology);
}

EngineConfig engine_config(const Config& config, std::vector<TierSpec> tiers) {
    uint64_t budget = std::ranges::find(tiers, "dram0", &TierSpec::name)->capacity_bytes;
    return {.budget_bytes = budget,
            .tiers = std::move(tiers),
            .tier_share_percent = config.tiers.share_percent,
            .follow_memory = config.tiers.discover,
            .migrate_bytes_per_s = config.tiers.migrate_bytes_per_s,
            .extent_bytes = config.memory.extent_bytes,
            .huge_pages = config.memory.huge_pages,
            .io_depth = config.io.depth,
            .direct_io = config.io.direct,
            .policy = config.policy.name,
            .policy_object = config.policy.object,
            .policy_knobs = knobs(config.policy),
            .read_ahead = config.policy.read_ahead,
            .epoch_ms = config.policy.epoch_ms,
            .deadline_ms = config.session.deadline_ms,
            .state_directory = config.state.directory,
            .measure_disks = config.tiers.measure_disks,
            .gpu = {.percent = config.gpu.capacity.percent,
                    .bytes = config.gpu.capacity.bytes,
                    .slice_ms = config.gpu.slice_ms},
            .user_metadata_bytes = config.session.user_metadata_bytes,
            .sample_source = config.sample.source,
            .sample_event = config.sample.event,
            .sample_cost_percent = config.sample.cost_percent};
}

Result<std::optional<gid_t>> group_id(const std::string& name) {
    if (name.empty()) return std::nullopt;
    const group* found = ::getgrnam(name.c_str());
    if (found == nullptr)
        return fail(Code::bad_config, "find group", name, "create it, or change [control] group");
    return found->gr_gid;
}

void tell_ready(int ready_fd) {
    ::sd_notify(0, "READY=1");
    if (ready_fd < 0) return;
    (void)!::write(ready_fd, "1\n", 2);
    ::close(ready_fd);
}

// The rest of what tierd does not need, once the arenas' file system is there. What could not be given up is said.
std::vector<std::string> give_up_rights() {
    std::vector<std::string> notes;
    if (auto dropped = drop_capabilities(false); !dropped) notes.push_back(dropped.error().text());
    if (auto refused = refuse_foreign_calls(); !refused) notes.push_back(refused.error().text());
    return notes;
}

// Serves until a signal asks to stop. Returns an error only when it could not begin.
Result<void> serve(const Config& config, int ready_fd, const sigset_t& stop_signals) {
    auto tiers = tiers_of(config, read_topology());
    if (!tiers) return std::unexpected(tiers.error());
    const EngineConfig settings = engine_config(config, std::move(*tiers));
    auto arenas = Engine::open_arenas(settings);
    auto notes = give_up_rights();
    auto engine = Engine::start(settings, std::move(arenas));
    if (!engine) return std::unexpected(engine.error());
    (*engine)->add_notes(std::move(notes));
    auto server = Server::start({.socket_path = config.session.socket,
                                 .inherited_socket = systemd_socket(),
                                 .group = config.session.group,
                                 .user_mode_faults = config.session.user_mode_faults,
                                 .deadline_ms = config.session.deadline_ms,
                                 .max_sessions = config.session.max_sessions},
                                **engine);
    if (!server) return std::unexpected(server.error());
    (*engine)->add_notes((*server)->notes());
    auto control_group = group_id(config.control.group);
    if (!control_group) return std::unexpected(control_group.error());
    auto api = ApiServer::start(**engine, {.socket = config.control.socket, .group = *control_group});
    if (!api) return std::unexpected(api.error());
    spdlog::info("ready: sessions on {}, control on {}", config.session.socket, config.control.socket);
    tell_ready(ready_fd);

    int signal_number = 0;
    ::sigwait(&stop_signals, &signal_number);
    spdlog::info("stopping: all sessions fall back to the kernel's mapping");
    ::sd_notify(0, "STOPPING=1");
    (*engine)->stop(kStopPatienceMs);
    (*server)->stop();
    api->reset();
    // Threads live on until the end: a session's may hang in a file system that does not answer, and others may be about to
    // log. So nothing that they use is taken down.
    spdlog::default_logger()->flush();
    std::fflush(nullptr);
    ::_exit(EXIT_SUCCESS);
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app{
        "tierd keeps model weights in memory tiers and gives them to engines when they are touched."};
    app.footer(
        "Without options: the settings of /etc/tierd/tierd.toml. See tierctl --help for what to do with it.");
    CommandLine line;
    try {
        line = read_command_line(app, argc, argv);
    } catch (const CLI::ParseError& error) {
        return app.exit(error);
    }
    auto config = configure(line);
    if (!config) {
        fmt::print(stderr, "tierd: {}\n", config.error().text());
        return 2;
    }
    set_up_log(config->log.level);
    // Before anything is read that others wrote. Where it fails, the second time says so.
    (void)drop_capabilities(true);
    raise_descriptor_limit();
    // Before any thread exists, so that all inherit it and only sigwait() sees them.
    sigset_t stop_signals;
    ::sigemptyset(&stop_signals);
    for (int number : {SIGTERM, SIGINT, SIGHUP}) ::sigaddset(&stop_signals, number);
    ::pthread_sigmask(SIG_BLOCK, &stop_signals, nullptr);
    ::signal(SIGPIPE, SIG_IGN);
    auto served = serve(*config, line.ready_fd, stop_signals);
    if (!served) fmt::print(stderr, "tierd: {}\n", served.error().text());
    return served ? EXIT_SUCCESS : EXIT_FAILURE;
}
