// What tierd gives up before it serves: capabilities, and system calls that it never makes. That it can do all its work
// without them is what every other test shows, since they all start this tierd.
#define BOOST_TEST_MODULE rights
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <boost/test/unit_test.hpp>
#include <filesystem>
#include <fstream>
#include <functional>
#include <thread>

#include "daemon/rights.h"
#include "tests/integration/harness.h"

using namespace tierd;
using namespace tierd::itest;

namespace {

std::string field(const std::string& status_file, const std::string& name) {
    std::ifstream status(status_file);
    for (std::string line; std::getline(status, line);)
        if (line.starts_with(name + ":")) return line.substr(name.size() + 2);
    return {};
}
uint64_t mask(const std::string& status_file, const std::string& name) {
    return std::stoull(field(status_file, name), nullptr, 16);
}

uint64_t mask_of(std::span<const Capability> list) {
    uint64_t all = 0;
    for (const Capability& one : list) all |= 1ull << one.number;
    return all;
}

// What `work` returns, which a forked child of one thread has done: rights that are given up don't come back.
int in_child(const std::function<int()>& work) {
    const pid_t child = fork();
    if (child == 0) _exit(work());
    int status = 0;
    BOOST_REQUIRE(waitpid(child, &status, 0) == child);
    BOOST_REQUIRE(WIFEXITED(status));
    return WEXITSTATUS(status);
}

int refused_calls() {
    if (!refuse_foreign_calls()) return 100;
    auto is_refused = [](long result) { return result == -1 && errno == EPERM ? 1 : 0; };
    char* const arguments[] = {const_cast<char*>("/bin/true"), nullptr};
    return is_refused(execve(arguments[0], arguments, nullptr)) +
           is_refused(ptrace(PTRACE_TRACEME, 0, nullptr, nullptr)) + is_refused(unshare(CLONE_NEWUSER)) +
           is_refused(mount("none", "/", nullptr, MS_REMOUNT, nullptr)) + is_refused(setuid(getuid()));
}

int goes_on_after_refusal() {
    if (!refuse_foreign_calls()) return 100;
    bool opened = false;
    std::thread([&] { opened = bool(Fd(open("/proc/self/status", O_RDONLY | O_CLOEXEC))); }).join();
    return opened && getpid() > 0 ? 0 : 1;
}

}  // namespace

BOOST_AUTO_TEST_CASE(every_thread_of_tierd_has_what_is_listed_and_no_more) {
    const WorkDir dir;
    const Daemon daemon(dir);
    daemon.status();  // answered, so all that it needs runs
    const uint64_t ours = mask("/proc/self/status", "CapPrm");
    const bool may_bound = ours & 1ull << 8;  // CAP_SETPCAP
    size_t threads = 0;
    for (const auto& task :
         std::filesystem::directory_iterator("/proc/" + std::to_string(daemon.pid()) + "/task")) {
        const std::string status = task.path() / "status";
        BOOST_TEST_CONTEXT(field(status, "Name")) {
            BOOST_TEST(mask(status, "CapEff") == (ours & mask_of(kept_capabilities())));
            BOOST_TEST(mask(status, "CapPrm") == (ours & mask_of(kept_capabilities())));
            BOOST_TEST(mask(status, "CapInh") == 0u);
            BOOST_TEST(mask(status, "CapAmb") == 0u);
            if (may_bound) BOOST_TEST(mask(status, "CapBnd") == 0u);
            BOOST_TEST(field(status, "NoNewPrivs") == "1");
            BOOST_TEST(field(status, "Seccomp") == "2");
        }
        threads++;
    }
    BOOST_TEST(threads > 3u);
}

BOOST_AUTO_TEST_CASE(the_right_to_mount_is_kept_until_the_arenas_file_system_is_there) {
    if (geteuid() != 0) skip_program("only root has rights to give up");
    const uint64_t admin = mask_of(start_capabilities());
    auto effective = [admin] { return mask("/proc/self/status", "CapEff") & admin; };
    BOOST_REQUIRE(effective() == admin);
    BOOST_TEST(in_child([&] { return drop_capabilities(true) && effective() == admin ? 0 : 1; }) == 0);
    BOOST_TEST(in_child([&] { return drop_capabilities(false) && effective() == 0 ? 0 : 1; }) == 0);
    const WorkDir dir;
    const Daemon daemon(dir);
    for (const Json& note : daemon.status()["notes"])
        BOOST_TEST(note.get<std::string>().find("tmpfs") == std::string::npos, note.dump());
}

BOOST_AUTO_TEST_CASE(calls_that_tierd_never_makes_are_refused) {
    BOOST_TEST(in_child(refused_calls) == 5);
}

BOOST_AUTO_TEST_CASE(all_other_calls_go_on) {
    BOOST_TEST(in_child(goes_on_after_refusal) == 0);
}
