// private_daemon.h - a private tierd for the lifetime of one command.
//
// Owns:      the daemon process and its folder (sockets, configuration, log), which only this user can enter.
// Invariant: no daemon outlives tierd-run: the destructor ends it, and if tierd-run is killed the kernel
//            does. Only then the folder stays.
// Callers:   the only thread. start() waits for readiness, at most kReadyLimit_ms.
// Fails:     start() returns why the daemon did not start; nothing is left behind then.
#pragma once

#include <string>

#include "cli/tierd_run/child.h"

namespace tierd::run {

inline constexpr int kReadyLimit_ms = 10'000;
inline constexpr int kStopLimit_ms = 2000;

struct DaemonPlan {
    std::string program;  // path of tierd
    std::string budget;   // these three as on tierd's command line; empty: its defaults
    std::string policy;
    std::string huge_pages;
    bool verbose = false;  // its log goes to standard error
};

// $XDG_RUNTIME_DIR/tierd-run-XXXXXX, or in /tmp, mode 0700. Removed with all it holds.
class Folder {
  public:
    static Result<Folder> make();
    Folder(Folder&& other) noexcept : path_(std::exchange(other.path_, {})) {}
    Folder& operator=(Folder&&) = delete;
    ~Folder();
    std::string file(const char* name) const { return path_ + "/" + name; }

  private:
    explicit Folder(std::string path) : path_(std::move(path)) {}
    std::string path_;
};

class PrivateDaemon {
  public:
    // Errors: bad_config when tierd does not accept its command line (the user wrote something wrong),
    //            busy when a signal came meanwhile (it is still to be taken), otherwise why it could not
    //            start.
    static Result<PrivateDaemon> start(const DaemonPlan& plan, const Signals& signals);
    PrivateDaemon(PrivateDaemon&&) = default;
    PrivateDaemon& operator=(PrivateDaemon&&) = delete;
    ~PrivateDaemon();

    std::string socket() const { return folder_.file("tierd.sock"); }
    std::string control_socket() const { return folder_.file("control.sock"); }

  private:
    PrivateDaemon(Folder folder, Child process) : folder_(std::move(folder)), process_(std::move(process)) {}
    Result<void> wait_ready(int ready_fd, const Signals& signals);
    std::string last_words() const;

    Folder folder_;
    Child process_;
};

}  // namespace tierd::run
