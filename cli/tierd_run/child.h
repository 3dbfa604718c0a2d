// child.h - one child process of tierd-run.
//
// Owns:      the process, as a zombie at the latest: it is reaped exactly once, by wait().
// Invariant: signals go to this very process, never to another that got the same number (it has a pidfd).
// Callers:   the only thread.
// Fails:     spawn() with the errno of execve(2), so a command that can't be run is distinguished from one
//            that ran and failed.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "cli/tierd_run/signals.h"
#include "lib/base/fd.h"

namespace tierd::run {

struct SpawnPlan {
    std::vector<std::string> argv;         // argv[0] is looked up in PATH
    std::vector<std::string> environment;  // "NAME=value", all of it
    int output = -1;                       // becomes standard output and error; -1: both are inherited
    int kept = -1;                         // a descriptor that stays open across exec; -1: none
    bool companion = false;  // a process group of its own, and it gets SIGTERM when tierd-run dies
};

class Child {
  public:
    // Returns when the new program runs. Errors: not_found (ENOENT), denied (other errnos of execve),
    // kernel_refused (fork).
    static Result<Child> spawn(const SpawnPlan& plan, const Signals& signals);

    pid_t pid() const { return pid_; }
    int pidfd() const { return pidfd_.get(); }  // readable when the process has ended
    void send(int signal) const;
    // Waits at most `timeout_ms` (-1: for ever) for the end. Returns waitpid's status; nothing when it still
    // runs.
    std::optional<int> wait(int timeout_ms);

  private:
    Child(pid_t pid, Fd pidfd) : pid_(pid), pidfd_(std::move(pidfd)) {}

    pid_t pid_;
    Fd pidfd_;
    std::optional<int> status_;
};

}  // namespace tierd::run
