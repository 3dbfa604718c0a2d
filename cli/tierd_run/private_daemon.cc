#include "cli/tierd_run/private_daemon.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "cli/tierd_run/environment.h"
#include "lib/base/clock.h"

namespace tierd::run {
namespace {

constexpr int kBadCommandLine = 2;  // tierd's exit status for it

// Settings that no option of tierd covers. A user without /dev/userfaultfd is served with what needs no
// right.
Result<void> write_config(const std::string& path) {
    std::ofstream out(path);
    out << "[session]\nuser_mode_faults = true\n";
    out.close();
    if (!out) return os_error("write", path);
    return {};
}

// Where learned orders are kept between runs of this user; the daemon's folder when the user has no home.
std::string state_directory(const Folder& folder) {
    const char* state = std::getenv("XDG_STATE_HOME");
    const char* home = std::getenv("HOME");
    std::string path = state != nullptr && *state == '/' ? std::string(state) + "/tierd"
                       : home != nullptr && *home == '/' ? std::string(home) + "/.local/state/tierd"
                                                         : folder.file("state");
    std::error_code ignored;  // the daemon says what it means for it when the directory is not there
    std::filesystem::create_directories(path, ignored);
    return path;
}

std::vector<std::string> command_line(const DaemonPlan& plan, const Folder& folder, int ready_fd) {
    std::vector<std::string> argv = {plan.program,
                                     "--config",
                                     folder.file("tierd.toml"),
                                     "--socket",
                                     folder.file("tierd.sock"),
                                     "--control-socket",
                                     folder.file("control.sock"),
                                     "--state-dir",
                                     state_directory(folder),
                                     "--log-level",
                                     plan.verbose ? "info" : "warning",
                                     "--ready-fd",
                                     std::to_string(ready_fd)};
    auto add = [&argv](const char* option, const std::string& value) {
        if (!value.empty()) argv.insert(argv.end(), {option, value});
    };
    add("--budget", plan.budget);
    add("--policy", plan.policy);
    add("--huge-pages", plan.huge_pages);
    return argv;
}

}  // namespace

Result<Folder> Folder::make() {
    const char* runtime = std::getenv("XDG_RUNTIME_DIR");
    std::string path = runtime != nullptr && ::access(runtime, W_OK | X_OK) == 0 ? runtime : "/tmp";
    path += "/tierd-run-XXXXXX";
    if (::mkdtemp(path.data()) == nullptr) return os_error("make folder", path);
    return Folder(path);
}

Folder::~Folder() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
}

Result<PrivateDaemon> PrivateDaemon::start(const DaemonPlan& plan, const Signals& signals) {
    auto folder = Folder::make();
    if (!folder) return std::unexpected(folder.error());
    if (auto written = write_config(folder->file("tierd.toml")); !written)
        return std::unexpected(written.error());
    auto log = open_file(folder->file("tierd.log"), O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (!log) return std::unexpected(log.error());
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return os_error("make a pipe");
    Fd ready(ends[0]), tell(ends[1]);
    auto process = Child::spawn({.argv = command_line(plan, *folder, tell.get()),
                                 .environment = environment_of_daemon(),
                                 .output = plan.verbose ? -1 : log->get(),
                                 .kept = tell.get(),
                                 .companion = true},
                                signals);
    if (!process) return std::unexpected(process.error());
    PrivateDaemon daemon(std::move(*folder), std::move(*process));
    tell.reset();
    if (auto is_ready = daemon.wait_ready(ready.get(), signals); !is_ready)
        return std::unexpected(is_ready.error());
    return daemon;
}

Result<void> PrivateDaemon::wait_ready(int ready_fd, const Signals& signals) {
    pollfd wanted[] = {{ready_fd, POLLIN, 0}, {signals.fd(), POLLIN, 0}};
    if (::poll(wanted, 2, kReadyLimit_ms) <= 0)
        return fail(Code::gone, "start tierd", {}, "it was not ready within 10 s");
    if (wanted[1].revents != 0) return fail(Code::busy, "start tierd", {}, "interrupted");
    char byte = 0;
    if (::read(ready_fd, &byte, 1) == 1 && byte == '1') return {};
    auto status = process_.wait(kStopLimit_ms);
    bool refused = status && WIFEXITED(*status) && WEXITSTATUS(*status) == kBadCommandLine;
    return fail(refused ? Code::bad_config : Code::gone, "start tierd", {}, last_words());
}

std::string PrivateDaemon::last_words() const {
    std::ifstream log(folder_.file("tierd.log"));
    std::string line, last = "it ended before it was ready";
    while (std::getline(log, line))
        if (!line.empty()) last = line;
    return last;
}

PrivateDaemon::~PrivateDaemon() {
    if (process_.pidfd() < 0) return;  // moved from
    process_.send(SIGTERM);
    if (process_.wait(kStopLimit_ms)) return;
    process_.send(SIGKILL);
    process_.wait(-1);
}

}  // namespace tierd::run
