// tierd-run from outside: exit statuses, signals, and that nothing is left behind, whatever the daemon beside
// it does.
#define BOOST_TEST_MODULE tierd_run
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <boost/test/unit_test.hpp>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "tests/integration/harness.h"
#include "tests/integration/listener.h"

using namespace tierd;
using namespace tierd::itest;
namespace fs = std::filesystem;

namespace {

using Words = std::vector<std::string>;

bool is_gone(pid_t pid) {
    std::string stat = text_of("/proc/" + std::to_string(pid) + "/stat");
    return stat.empty() || stat.find(") Z ") != std::string::npos;
}

struct Ended {
    int status = 0;  // waitpid's
    std::string out, err;

    int code() const { return WIFEXITED(status) ? WEXITSTATUS(status) : -1; }
};

// tierd-run in a folder of its own, so that the test decides what lies beside it.
struct Tree {
    Tree() {
        fs::create_directories(dir.file("bin"));
        fs::create_directories(dir.file("lib"));
        fs::copy_file(programs_dir() + "/bin/tierd-run", dir.file("bin/tierd-run"));
        fs::copy_file(programs_dir() + "/lib/libtierd_shim.so", dir.file("lib/libtierd_shim.so"));
    }

    // A daemon that notes its number, its socket's folder and its words, then does what `act` says. $fd is
    // for readiness.
    void stand_in(const std::string& act) const {
        std::ofstream script(dir.file("bin/tierd"));
        script << "#!/bin/bash\n"
               << "echo $$ >" << dir.file("pid") << "\necho \"$@\" >" << dir.file("words") << "\n"
               << "while [[ $# -gt 0 ]]; do [[ $1 == --ready-fd ]] && fd=$2; shift; done\n"
               << act << "\n";
        script.close();
        chmod(dir.file("bin/tierd").c_str(), 0755);
    }

    Process start(const Words& words, const Words& environment = {}) const {
        Fd out(::open(dir.file("out").c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644));
        Process::Plan plan;
        plan.argv = {dir.file("bin/tierd-run")};
        plan.argv.insert(plan.argv.end(), words.begin(), words.end());
        plan.environment = {"XDG_RUNTIME_DIR=" + dir.file("."), "XDG_STATE_HOME=" + dir.file("state")};
        plan.environment.insert(plan.environment.end(), environment.begin(), environment.end());
        plan.log = dir.file("err");
        plan.out = out.get();
        return Process(plan);
    }

    Ended run(const Words& words, const Words& environment = {}) const {
        Process process = start(words, environment);
        Ended ended{process.wait(), {}, {}};
        ended.out = text_of(dir.file("out"));
        ended.err = text_of(dir.file("err"));
        return ended;
    }

    pid_t daemon() const { return std::atoi(text_of(dir.file("pid")).c_str()); }
    bool has_private_folder() const {
        for (const auto& entry : fs::directory_iterator(dir.file(".")))
            if (entry.path().filename().string().starts_with("tierd-run-")) return true;
        return false;
    }

    WorkDir dir;
};

constexpr const char* kServe = "echo 1 >&$fd; exec {fd}>&-; exec sleep 1000";
constexpr const char* kServeStubbornly = "trap '' TERM; echo 1 >&$fd; exec {fd}>&-; exec sleep 1000";

void link_real_daemon(const Tree& tree) {
    fs::create_symlink(programs_dir() + "/bin/tierd", tree.dir.file("bin/tierd"));
}

}  // namespace

BOOST_FIXTURE_TEST_CASE(the_commands_exit_status_is_handed_on, Tree) {
    stand_in(kServe);
    BOOST_TEST(run({"--private", "--", "true"}).code() == 0);
    BOOST_TEST(run({"--private", "--", "sh", "-c", "exit 7"}).code() == 7);
    BOOST_TEST(run({"--private", "--", "sh", "-c", "kill -KILL $$"}).code() == 128 + SIGKILL);
}

BOOST_FIXTURE_TEST_CASE(a_command_that_cant_be_run_is_told_from_one_that_is_not_there, Tree) {
    stand_in(kServe);
    Ended missing = run({"--private", "--", "no-such-command-anywhere"});
    BOOST_TEST(missing.code() == 127);
    BOOST_TEST(missing.err.find("no-such-command-anywhere") != std::string::npos, missing.err);
    BOOST_TEST(run({"--private", "--", dir.file("words")}).code() == 126);
}

BOOST_FIXTURE_TEST_CASE(a_wrong_command_line_is_125_and_runs_nothing, Tree) {
    BOOST_TEST(run({"--", "true"}).code() == 0);
    BOOST_TEST(run({"true"}).code() == 125);
    BOOST_TEST(run({"--"}).code() == 125);
    Ended refused = run({"--no-such-option", "--", "touch", dir.file("ran")});
    BOOST_TEST(refused.code() == 125);
    BOOST_TEST(!fs::exists(dir.file("ran")));
}

BOOST_FIXTURE_TEST_CASE(without_a_daemon_the_command_runs_and_one_line_says_why, Tree) {
    Ended ended =
        run({"--private", "--", "sh", "-c", "echo \"preload=$LD_PRELOAD\"; exit 3"}, {"PATH=/usr/bin:/bin"});
    BOOST_TEST(ended.code() == 3);
    BOOST_TEST(ended.out == "preload=\n");
    BOOST_TEST(ended.err.starts_with("tierd-run: without tierd: "), ended.err);
    BOOST_TEST(std::count(ended.err.begin(), ended.err.end(), '\n') == 1);
}

BOOST_FIXTURE_TEST_CASE(without_the_preloaded_library_the_command_runs, Tree) {
    stand_in(kServe);
    fs::remove(dir.file("lib/libtierd_shim.so"));
    Ended ended = run({"--private", "--", "echo", "ran"});
    BOOST_TEST(ended.code() == 0);
    BOOST_TEST(ended.out == "ran\n");
    BOOST_TEST(!fs::exists(dir.file("pid")), "no daemon is started for nothing");
}

BOOST_FIXTURE_TEST_CASE(a_daemon_that_dies_before_it_is_ready_costs_nothing_but_a_line, Tree) {
    stand_in("echo 'no memory for me' >&2; exit 1");
    Ended ended = run({"--private", "--", "sh", "-c", "exit 4"});
    BOOST_TEST(ended.code() == 4);
    BOOST_TEST(ended.err.find("no memory for me") != std::string::npos, ended.err);
    BOOST_TEST(!has_private_folder());
}

BOOST_FIXTURE_TEST_CASE(what_the_daemon_refuses_on_its_command_line_is_the_users_mistake, Tree) {
    stand_in("echo 'no such policy' >&2; exit 2");
    Ended ended = run({"--policy", "best", "--", "touch", dir.file("ran")});
    BOOST_TEST(ended.code() == 125);
    BOOST_TEST(ended.err.find("no such policy") != std::string::npos, ended.err);
    BOOST_TEST(!fs::exists(dir.file("ran")));
    BOOST_TEST(text_of(dir.file("words")).find("--policy best") != std::string::npos);
}

BOOST_FIXTURE_TEST_CASE(a_private_daemon_and_its_folder_are_gone_when_the_command_has_ended, Tree) {
    stand_in(kServe);
    Ended ended = run({"--private", "--", "sh", "-c", "stat -c %a $(dirname $TIERD_SOCKET)"});
    BOOST_TEST(ended.code() == 0);
    BOOST_TEST(ended.out == "700\n");
    BOOST_TEST(is_gone(daemon()));
    BOOST_TEST(!has_private_folder());
}

BOOST_FIXTURE_TEST_CASE(a_private_daemon_that_ignores_sigterm_is_killed, Tree) {
    stand_in(kServeStubbornly);
    BOOST_TEST(run({"--private", "--", "true"}).code() == 0);
    BOOST_TEST(is_gone(daemon()));
    BOOST_TEST(!has_private_folder());
}

BOOST_FIXTURE_TEST_CASE(a_killed_tierd_run_leaves_no_daemon, Tree) {
    stand_in(kServe);
    Process process = start({"--private", "--", "sleep", "1000"});
    BOOST_REQUIRE(comes_true([&] { return text_of(dir.file("words")).size() > 1 && daemon() > 0; }));
    BOOST_REQUIRE(!is_gone(daemon()));
    process.send(SIGKILL);
    process.wait();
    BOOST_TEST(comes_true([&] { return is_gone(daemon()); }));
}

BOOST_FIXTURE_TEST_CASE(signals_reach_the_command_and_its_answer_counts, Tree) {
    stand_in(kServe);
    for (int signal : {SIGTERM, SIGINT, SIGHUP}) {
        Process process = start({"--private", "--", "bash", "-c",
                                 "trap 'kill $!; exit 42' TERM INT HUP; echo up; sleep 1000 & wait"});
        BOOST_REQUIRE(comes_true([&] { return text_of(dir.file("out")) == "up\n"; }));
        process.send(signal);
        int status = process.wait();
        BOOST_TEST((WIFEXITED(status) && WEXITSTATUS(status) == 42), "signal " << signal << ": " << status);
        BOOST_TEST(is_gone(daemon()));
    }
}

BOOST_FIXTURE_TEST_CASE(the_command_finds_tierd_in_its_environment, Tree) {
    stand_in(kServe);
    std::string other = programs_dir() + "/lib/libtierd_shim.so";
    Ended ended =
        run({"--private", "--match", "*.a", "--match", "*.b", "--", "sh", "-c",
             "echo $LD_PRELOAD; echo $TIERD_MATCH; dirname $TIERD_SOCKET; dirname $TIERD_CONTROL_SOCKET"},
            {"LD_PRELOAD=" + other});
    std::istringstream lines(ended.out);
    std::string preload, match, socket, control;
    lines >> preload >> match >> socket >> control;
    BOOST_TEST(preload == fs::canonical(dir.file("lib/libtierd_shim.so")).string() + ":" + other);
    BOOST_TEST(match == "*.a:*.b");
    BOOST_TEST(socket.find("tierd-run-") != std::string::npos);
    BOOST_TEST(socket == control);
}

BOOST_FIXTURE_TEST_CASE(a_socket_that_never_answers_is_passed_over_for_a_private_daemon, Tree) {
    stand_in(kServe);
    std::string path = dir.file("hostile.sock");
    Fd listener = listen_at(path, SOCK_SEQPACKET, 1);  // and never accepts
    Ended ended = run({"--socket", path, "--", "sh", "-c", "echo $TIERD_SOCKET"});
    BOOST_TEST(ended.code() == 0);
    BOOST_TEST(ended.out.find("tierd-run-") != std::string::npos, ended.out);
}

BOOST_FIXTURE_TEST_CASE(the_report_is_the_private_daemons_status, Tree) {
    link_real_daemon(*this);
    Ended ended = run({"--budget", "64MiB", "--report", dir.file("report.json"), "--", "true"});
    BOOST_TEST(ended.code() == 0, ended.err);
    Json report = Json::parse(text_of(dir.file("report.json")));
    BOOST_TEST(report["budget_bytes"] == 64u << 20);
    BOOST_TEST(report["counters"].contains("bytes_read"));
}

BOOST_FIXTURE_TEST_CASE(a_tierd_that_answers_is_used_and_left_running, Tree) {
    stand_in(kServe);
    Daemon system(dir);
    Ended ended = run({"--socket", system.socket(), "--", "sh", "-c", "echo $TIERD_SOCKET"});
    BOOST_TEST(ended.code() == 0, ended.err);
    BOOST_TEST(ended.out == system.socket() + "\n");
    BOOST_TEST(!fs::exists(dir.file("pid")), "no private daemon is started");
    BOOST_TEST(system.running());
}

BOOST_FIXTURE_TEST_CASE(a_budget_gets_a_private_daemon_even_where_one_answers, Tree) {
    stand_in(kServe);
    Daemon system(dir);
    Ended ended =
        run({"--socket", system.socket(), "--budget", "1GiB", "--", "sh", "-c", "echo $TIERD_SOCKET"});
    BOOST_TEST(ended.out.find("tierd-run-") != std::string::npos, ended.out);
}
