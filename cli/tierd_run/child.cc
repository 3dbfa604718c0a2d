#include "cli/tierd_run/child.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace tierd::run {
namespace {

std::vector<char*> pointers(const std::vector<std::string>& texts) {
    std::vector<char*> all;
    for (const std::string& text : texts) all.push_back(const_cast<char*>(text.c_str()));
    all.push_back(nullptr);
    return all;
}

// In the child; async-signal-safe but for execvpe's search, which allocates nothing with glibc. Never
// returns.
[[noreturn]] void become(const SpawnPlan& plan, char* const* argv, char* const* environment,
                         const Signals& signals, int failure, pid_t parent) {
    if (plan.companion) {
        ::setpgid(0, 0);
        ::prctl(PR_SET_PDEATHSIG, SIGTERM);
        if (::getppid() != parent) ::_exit(1);  // it died before prctl() took effect
    }
    if (plan.output >= 0) {
        ::dup2(plan.output, STDOUT_FILENO);
        ::dup2(plan.output, STDERR_FILENO);
    }
    if (plan.kept >= 0) ::fcntl(plan.kept, F_SETFD, 0);
    signals.restore_mask();
    ::execvpe(argv[0], argv, environment);
    int error = errno;
    (void)!::write(failure, &error, sizeof error);
    ::_exit(127);
}

}  // namespace

Result<Child> Child::spawn(const SpawnPlan& plan, const Signals& signals) {
    int pipe_ends[2];
    if (::pipe2(pipe_ends, O_CLOEXEC) != 0) return os_error("make a pipe");
    Fd failure_read(pipe_ends[0]), failure_write(pipe_ends[1]);
    std::vector<char*> argv = pointers(plan.argv), environment = pointers(plan.environment);
    pid_t parent = ::getpid();
    pid_t pid = ::fork();
    if (pid < 0) return os_error("fork");
    if (pid == 0) become(plan, argv.data(), environment.data(), signals, failure_write.get(), parent);
    failure_write.reset();
    Child child(pid, Fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))));
    if (!child.pidfd_) {
        auto refused = os_error("open the process of", plan.argv[0]);
        ::kill(pid, SIGKILL);
        ::waitpid(pid, nullptr, 0);
        return refused;
    }
    int error = 0;
    ssize_t got;
    while ((got = ::read(failure_read.get(), &error, sizeof error)) < 0 && errno == EINTR) {
    }
    if (got != sizeof error) return child;
    child.wait(-1);
    return std::unexpected(
        Error{error == ENOENT ? Code::not_found : Code::denied, error, "run", plan.argv[0], {}});
}

void Child::send(int signal) const {
    ::syscall(SYS_pidfd_send_signal, pidfd_.get(), signal, nullptr,
              0);  // it may have ended: nothing to do then
}

std::optional<int> Child::wait(int timeout_ms) {
    if (status_) return status_;
    pollfd ended{pidfd_.get(), POLLIN, 0};
    if (::poll(&ended, 1, timeout_ms) <= 0) return std::nullopt;
    int status = 0;
    if (::waitpid(pid_, &status, 0) == pid_) status_ = status;
    return status_;
}

}  // namespace tierd::run
