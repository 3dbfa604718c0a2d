// reader_fork.cc - making other processes out of the stand-in, in each way that programs do. See reader.h.
#include <fcntl.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <stdexcept>
#include <thread>

#include "tests/integration/reader.h"

extern char** environ;

namespace tierd::itest {
namespace {

int wait_for(pid_t pid) {
    int status = 0;
    if (pid < 0 || waitpid(pid, &status, 0) != pid) throw std::runtime_error("no child");
    return status;
}

bool all_right(const Json& tally) {
    return tally.at("wrong") == 0u && tally.at("sigbus") == 0u;
}

// The command lines of a second stand-in that maps and verifies `path`.
struct SecondReader {
    explicit SecondReader(const Command& command)
        : map("map path=" + command.text("path")), verify("verify seed=" + command.text("seed")) {}
    std::string map;
    std::string verify;
    char program[32] = "/proc/self/exe";
    char* argv[4] = {program, map.data(), verify.data(), nullptr};
};

// Runs `check` in a child and, at the same time, in a thread of the parent that was already at it before the
// fork.
template <class Check>
Json fork_and_check(Check check) {
    Json parents;
    std::thread parent([&] { parents = check(); });
    const pid_t pid = fork();
    if (pid == 0) _exit(all_right(check()) ? 0 : 1);
    parent.join();
    parents["child_status"] = wait_for(pid);
    return parents;
}

}  // namespace

Json fork_verify(Reader& reader, const Command& command) {
    return fork_and_check([&] { return verify(reader, command); });
}

Json fork_verify_writes(Reader& reader, const Command& command) {
    return fork_and_check([&] { return verify_writes(reader, command); });
}

Json spawn_verify(Reader&, const Command& command) {
    const SecondReader second(command);
    posix_spawn_file_actions_t quiet;
    posix_spawn_file_actions_init(&quiet);
    posix_spawn_file_actions_addopen(&quiet, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    pid_t pid = -1;
    const int err = posix_spawn(&pid, second.program, &quiet, nullptr, second.argv, environ);
    posix_spawn_file_actions_destroy(&quiet);
    if (err) throw std::runtime_error("posix_spawn refused");
    return {{"child_status", wait_for(pid)}};
}

Json vfork_verify(Reader&, const Command& command) {
    const SecondReader second(command);
    const pid_t pid = vfork();
    if (pid == 0) {
        dup2(STDERR_FILENO, STDOUT_FILENO);  // its answers are not ours
        execve(second.program, second.argv, environ);
        _exit(127);
    }
    return {{"child_status", wait_for(pid)}};
}

Json clone_and_exit(Reader&, const Command&) {
    const long pid = syscall(SYS_clone, SIGCHLD, nullptr, nullptr, nullptr, nullptr);
    if (pid == 0) syscall(SYS_exit_group, 0);
    return {{"child_status", wait_for(pid_t(pid))}};
}

}  // namespace tierd::itest
