// The real tierctl against the real API server, with an engine of the test's own: tables, JSON, exit
// statuses, hostile names.
#define BOOST_TEST_MODULE tierctl
#include <fcntl.h>
#include <pty.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "daemon/api.h"
#include "tests/integration/listener.h"
#include "tests/unit/fake_control.h"

using namespace tierd;
using nlohmann::json;

namespace {

struct Outcome {
    int status = -1;
    std::string out;
    std::string err;
};

std::string read_file(const std::string& path) {
    std::ifstream file(path);
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
}

struct Setup {
    TempFolder folder;
    FakeControl control;
    ApiConfig config;
    std::unique_ptr<ApiServer> server;
    std::vector<std::string> environment;
    int stderr_fd = -1;  // -1: a file

    Setup() { config.socket = folder.file("control.sock"); }

    void start() {
        auto started = ApiServer::start(control, config);
        BOOST_REQUIRE_MESSAGE(started.has_value(), (started ? "" : started.error().text()));
        server = std::move(*started);
    }

    Outcome run_plain(std::vector<std::string> arguments) {
        arguments.insert(arguments.begin(), TIERCTL);
        std::vector<char*> argv, envp;
        for (std::string& argument : arguments) argv.push_back(argument.data());
        for (std::string& variable : environment) envp.push_back(variable.data());
        argv.push_back(nullptr);
        envp.push_back(nullptr);
        std::string out = folder.file("out"), err = folder.file("err");
        posix_spawn_file_actions_t files;
        posix_spawn_file_actions_init(&files);
        posix_spawn_file_actions_addopen(&files, 1, out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
        if (stderr_fd < 0)
            posix_spawn_file_actions_addopen(&files, 2, err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
        else
            posix_spawn_file_actions_adddup2(&files, stderr_fd, 2);
        pid_t child = -1;
        int spawned = ::posix_spawn(&child, TIERCTL, &files, nullptr, argv.data(), envp.data());
        posix_spawn_file_actions_destroy(&files);
        BOOST_REQUIRE_MESSAGE(spawned == 0, TIERCTL << ": " << std::strerror(spawned));
        int status = 0;
        BOOST_REQUIRE(::waitpid(child, &status, 0) == child);
        BOOST_REQUIRE(WIFEXITED(status));
        return {WEXITSTATUS(status), read_file(out), stderr_fd < 0 ? read_file(err) : ""};
    }
    Outcome run(std::vector<std::string> arguments) {
        if (!server) start();
        arguments.insert(arguments.begin(), {"--socket", config.socket});
        return run_plain(arguments);
    }
};

bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

// The line of `text` that holds `part`; empty: none.
std::string line_with(const std::string& text, const std::string& part) {
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);)
        if (contains(line, part)) return line;
    return {};
}

// All that a terminal still holds for its master after everybody has closed it: read(2) then says EIO.
std::string read_to_end(const Fd& master) {
    std::string shown(64 * kKiB, '\0');
    size_t filled = 0;
    for (ssize_t got; (got = ::read(master.get(), shown.data() + filled, shown.size() - filled)) > 0;)
        filled += static_cast<size_t>(got);
    shown.resize(filled);
    return shown;
}

void check_harmless(const std::string& text) {
    for (char c : text) BOOST_TEST((c == '\n' || static_cast<uint8_t>(c) >= 0x20), text);
    for (const char* bad : {"\x7f", "\xc2\x9b", "\xe2\x80\xae", "\xe2\x80\xa8"})
        BOOST_TEST(!contains(text, bad), text);
}

}  // namespace

BOOST_AUTO_TEST_CASE(tiers_end_with_the_disks_that_weights_come_from) {
    Setup setup;
    std::string out = setup.run({"tiers"}).out;
    std::string nvme = line_with(out, "nvme0n1"), sda = line_with(out, "sda");
    for (const char* part : {"nvme", "1.00 TiB", "64.0 GiB", "80 us", "6.00 GiB/s", "measured", "origin"})
        BOOST_TEST(contains(nvme, part), out);
    BOOST_TEST(contains(sda, "unknown"), out);
    BOOST_TEST(out.find("dram0") < out.find("nvme0n1"));
}

BOOST_AUTO_TEST_CASE(status_says_when_moves_are_held_back_and_else_nothing_of_them) {
    Setup setup;
    setup.control.engine.moves = {256 * kMiB, 256 * kMiB, 1.01};
    BOOST_TEST(!contains(setup.run({"status"}).out, "moves "));
    setup.control.engine.moves = {256 * kMiB, 64 * kMiB, 1.312};
    std::string out = setup.run({"status"}).out;
    BOOST_TEST(
        contains(out,
                 "moves      at 64.0 MiB of 256 MiB a second, since readers waited 1.31 times as long\n"),
        out);
}

BOOST_AUTO_TEST_CASE(status_says_what_runs_in_units_that_people_read) {
    Setup setup;
    Outcome outcome = setup.run({"status"});
    BOOST_TEST(outcome.status == 0, outcome.err);
    BOOST_TEST(contains(outcome.out, "policy sweep"), outcome.out);
    BOOST_TEST(contains(outcome.out, "up 1 h 1 min"), outcome.out);
    BOOST_TEST(contains(outcome.out, "3.00 GiB of 8.00 GiB (37 %)"), outcome.out);
    BOOST_TEST(contains(outcome.out, "17 waited for a read"), outcome.out);
    BOOST_TEST(contains(outcome.out, "slowest 12.5 ms"), outcome.out);
    BOOST_TEST(contains(outcome.out, "no hugetlb pages are reserved"), outcome.out);
}

BOOST_AUTO_TEST_CASE(tables_are_aligned_whatever_their_names) {
    Setup setup;
    ModelStatus second = setup.control.known[0];
    second.file = 12;
    second.name =
        "gr\xc3\xb6\xc3\x9f"
        "er-and-much-longer.safetensors";
    second.resident_bytes = 0;
    second.changed = true;
    setup.control.known.push_back(second);
    Outcome outcome = setup.run({"models"});
    BOOST_TEST(outcome.status == 0, outcome.err);
    std::string head = line_with(outcome.out, "FILE"), first = line_with(outcome.out, "gemma.gguf");
    std::string other = line_with(outcome.out, "-and-much-longer");
    BOOST_TEST(contains(first, "3.00 GiB   75 %"), outcome.out);
    BOOST_TEST(contains(other, "changed on disk"), outcome.out);
    // The umlaut and the sharp s take two bytes each and one place each.
    BOOST_TEST(head.find("FORMAT") == first.find("gguf  ", first.find("gemma.gguf") + 10), outcome.out);
    BOOST_TEST(head.find("FORMAT") + 2 == other.rfind("gguf"), outcome.out);
    BOOST_TEST(head.find("BACKING") == first.find("shmem"), outcome.out);
}

BOOST_AUTO_TEST_CASE(sessions_and_tiers_are_tables) {
    Setup setup;
    Outcome sessions = setup.run({"sessions"});
    BOOST_TEST(sessions.status == 0, sessions.err);
    BOOST_TEST(contains(line_with(sessions.out, "4242"), "llama-server"), sessions.out);
    Outcome tiers = setup.run({"tiers"});
    BOOST_TEST(contains(line_with(tiers.out, "dram0"), "dram        8.00 GiB  3.00 GiB   37 %"), tiers.out);
}

BOOST_AUTO_TEST_CASE(faults_are_shown_by_stage_and_spread_when_asked) {
    Setup setup;
    Outcome table = setup.run({"faults"});
    BOOST_TEST(table.status == 0, table.err);
    BOOST_TEST(contains(line_with(table.out, "read"), "2.0 ms"), table.out);
    BOOST_TEST(!contains(table.out, "< "), table.out);
    Outcome spread = setup.run({"faults", "--histogram"});
    BOOST_TEST(contains(line_with(spread.out, "< "), "1  ####"), spread.out);
}

BOOST_AUTO_TEST_CASE(the_slowest_fault_is_shown_stage_by_stage) {
    Setup setup;
    Outcome shown = setup.run({"faults", "--slowest"});
    BOOST_TEST(shown.status == 0, shown.err);
    BOOST_TEST(contains(shown.out, "pid 4242, extent 17 of /models/gemma.gguf"), shown.out);
    BOOST_TEST(contains(line_with(shown.out, "read"), "11.0 ms"), shown.out);
    BOOST_TEST(contains(line_with(shown.out, "whole"), "12.5 ms"), shown.out);
    Outcome status = setup.run({"status"});
    BOOST_TEST(contains(line_with(status.out, "fall-backs"), "2 changed"), status.out);
    BOOST_TEST(contains(line_with(status.out, "refused"), "3 not_in_group"), status.out);
    BOOST_TEST(!contains(status.out, "deadline"), status.out);
}

BOOST_AUTO_TEST_CASE(tensors_are_shown_by_layer_and_one_by_one_when_asked) {
    Setup setup;
    Outcome layers = setup.run({"tensors", "gemma.gguf"});
    BOOST_TEST(layers.status == 0, layers.err);
    BOOST_TEST(contains(layers.out, "##########----------"), layers.out);
    BOOST_TEST(!contains(layers.out, "blk.0.attn_q.weight"), layers.out);
    Outcome each = setup.run({"tensors", "--tensors", "gemma.gguf"});
    std::string expert = line_with(each.out, "blk.1.ffn_up_exps.weight[3]");
    BOOST_TEST(contains(expert, "Q4_K"), each.out);
    BOOST_TEST(contains(expert, "50 %"), each.out);
}

BOOST_AUTO_TEST_CASE(sources_say_what_is_used_and_why_not_the_better_one) {
    Setup setup;
    Outcome sources = setup.run({"sources"});
    BOOST_TEST(sources.status == 0, sources.err);
    BOOST_TEST(contains(line_with(sources.out, "hint"), "yes   minor faults     1200     0  0.75 %  0.00 %"),
               sources.out);
    BOOST_TEST(contains(line_with(sources.out, "pebs"), "no such precise event"), sources.out);
}

BOOST_AUTO_TEST_CASE(what_is_hot_is_a_table_and_its_kinds_are_checked) {
    Setup setup;
    Outcome hot = setup.run({"hot"});
    BOOST_TEST(hot.status == 0, hot.err);
    BOOST_TEST(contains(line_with(hot.out, "ffn_up_exps"), "12.50       40  gemma.gguf      1       3"),
               hot.out);
    BOOST_TEST(setup.run({"hot", "--by", "colour"}).status == 2);
    BOOST_TEST(setup.run({"hot", "--by", "layer"}).status == 0);
    Outcome missing = setup.run({"hot", "--from", "/no/such/perf.data"});
    BOOST_TEST(missing.status == 1);
    BOOST_TEST(contains(missing.err, "/no/such/perf.data"), missing.err);
}

BOOST_AUTO_TEST_CASE(a_heatmap_is_text_by_layer_or_a_picture) {
    Setup setup;
    Outcome map = setup.run({"heatmap", "gemma.gguf"});
    BOOST_TEST(map.status == 0, map.err);
    BOOST_TEST(contains(map.out, "    - 4\n    0 9\n    1 .\n"), map.out);
    TempFolder folder;
    Outcome drawn = setup.run({"heatmap", "gemma.gguf", "--svg", folder.file("heat.svg")});
    BOOST_TEST(drawn.status == 0, drawn.err);
    std::ifstream in(folder.file("heat.svg"));
    std::string svg((std::istreambuf_iterator<char>(in)), {});
    BOOST_TEST(contains(svg, "<svg "), svg);
    BOOST_TEST(contains(svg, "expert 3: heat 0.00 from 0 observations, not in memory"), svg);
    BOOST_TEST(contains(svg, "#f6d746"), svg);  // the hottest
    BOOST_TEST(setup.run({"heatmap", "none"}).status == 1);
    BOOST_TEST(setup.run({"heatmap", "gemma.gguf", "--svg", "/no/such/folder/x.svg"}).status == 1);
}

BOOST_AUTO_TEST_CASE(json_is_what_the_api_says) {
    Setup setup;
    for (auto [command, key] : {std::pair{"status", "counters"},
                                {"models", "models"},
                                {"sessions", "sessions"},
                                {"tiers", "tiers"},
                                {"faults", "stages"},
                                {"sources", "sources"},
                                {"hot", "rows"}}) {
        Outcome outcome = setup.run({command, "--json"});
        BOOST_TEST(outcome.status == 0, outcome.err);
        BOOST_TEST(json::parse(outcome.out).contains(key), outcome.out);
    }
    BOOST_TEST(json::parse(setup.run({"tensors", "1", "--json"}).out)["tensors"].size() == 3u);
    BOOST_TEST(json::parse(setup.run({"preload", "1", "--json"}).out)["finished"] == true);
    BOOST_TEST(json::parse(setup.run({"pin", "1", "--json"}).out)["name"] == "gemma.gguf");
    BOOST_TEST(json::parse(setup.run({"unpin", "1", "--json"}).out)["name"] == "gemma.gguf");
    BOOST_TEST(json::parse(setup.run({"evict", "1", "--json"}).out)["evicted_bytes"] == 3 * kGiB);
    BOOST_TEST(json::parse(setup.run({"budget", "2GiB", "--json"}).out)["budget_bytes"] == 2 * kGiB);
}

BOOST_AUTO_TEST_CASE(preload_waits_for_the_end_unless_told_not_to) {
    Setup setup;
    Outcome started = setup.run({"preload", "gemma.gguf", "--no-wait"});
    BOOST_TEST(started.status == 0, started.err);
    BOOST_TEST(contains(started.out, "0 B of 4.00 GiB, goes on as job 5"), started.out);
    Outcome waited = setup.run({"preload", "gemma.gguf"});
    BOOST_TEST(waited.status == 0, waited.err);
    BOOST_TEST(waited.out == "preload gemma.gguf: 4.00 GiB of 4.00 GiB\n");
    BOOST_TEST(waited.err == "");  // no bar where there is no terminal
}

BOOST_AUTO_TEST_CASE(preload_draws_a_bar_on_a_terminal) {
    Setup setup;
    int raw_master = -1, raw_slave = -1;
    BOOST_REQUIRE(::openpty(&raw_master, &raw_slave, nullptr, nullptr, nullptr) == 0);
    Fd master(raw_master), slave(raw_slave);
    setup.stderr_fd = slave.get();
    Outcome outcome = setup.run({"preload", "gemma.gguf"});
    BOOST_TEST(outcome.status == 0);
    slave.reset();  // the last one: what was written can be read, and then comes the end
    std::string bars = read_to_end(master);
    BOOST_TEST(contains(bars, "[---------"), bars);
    BOOST_TEST(contains(bars, "50 %  2.00 GiB of 4.00 GiB"), bars);
    BOOST_TEST(bars.ends_with("\r\x1b[K"), bars);  // and takes it away again
}

BOOST_AUTO_TEST_CASE(a_preload_that_fails_is_a_failed_request) {
    Setup setup;
    setup.control.job_error = "read /models/gemma.gguf: Input/output error (5)";
    Outcome outcome = setup.run({"preload", "gemma.gguf"});
    BOOST_TEST(outcome.status == 1);
    BOOST_TEST(outcome.out == "");
    BOOST_TEST(outcome.err ==
               "tierctl: preload gemma.gguf: read /models/gemma.gguf: Input/output error (5)\n");
}

BOOST_AUTO_TEST_CASE(names_go_to_the_engine_byte_for_byte_and_paths_absolute) {
    Setup setup;
    setup.run({"pin", "a b%2F\xff\xc3\xa9?#"});
    setup.run({"pin", "/models/./x.gguf"});
    setup.run({"pin", "./y.gguf"});
    setup.run({"pin", "/tmp/../z.gguf"});
    std::vector<std::string> want = {"pin a b%2F\xff\xc3\xa9?#", "pin /models/x.gguf",
                                     "pin " + std::filesystem::current_path().string() + "/y.gguf",
                                     "pin /z.gguf"};
    BOOST_TEST(setup.control.calls() == want, boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(the_budget_is_read_as_people_write_sizes) {
    Setup setup;
    BOOST_TEST(setup.run({"budget", "1.5G"}).out == "budget 1.50 GiB, in memory 3.00 GiB\n");
    Outcome wrong = setup.run({"budget", "plenty"});
    BOOST_TEST(wrong.status == 2);
    BOOST_TEST(contains(wrong.err, "write a size such as 2GiB"), wrong.err);
    std::vector<std::string> want = {"budget 1610612736"};
    BOOST_TEST(setup.control.calls() == want, boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(a_refused_request_is_status_1_with_what_to_do) {
    Setup setup;
    Outcome unknown = setup.run({"pin", "none"});
    BOOST_TEST(unknown.status == 1);
    BOOST_TEST(unknown.err == "tierctl: cannot find model none; GET /v1/models lists what is known\n");
    setup.server.reset();
    setup.control.pins_too_large = true;
    BOOST_TEST(setup.run({"pin", "gemma.gguf"}).status == 1);
    BOOST_TEST(setup.run({"budget", "1"}).status == 1);
}

BOOST_AUTO_TEST_CASE(rules_are_built_into_an_object_and_warnings_do_not_stop_it) {
    Setup setup;
    std::string source = setup.folder.file("night.toml"), object = setup.folder.file("night.bpf.o");
    std::ofstream(source) << "[[rule]]\nlayer = \"5-3\"\npin = true\n";
    Outcome outcome = setup.run_plain({"policy", "build", source});
    BOOST_TEST(outcome.status == 0, outcome.err);
    BOOST_TEST(outcome.out == object + ": 1 rule\n");
    BOOST_TEST(contains(outcome.err, source + ":2:9: warning: layer: nothing is in it"), outcome.err);
    BOOST_TEST(
        read_file(object).starts_with("\x7f"
                                      "ELF"));
}

BOOST_AUTO_TEST_CASE(wrong_rules_are_status_1_with_all_mistakes_and_leave_the_object_of_before) {
    Setup setup;
    std::string source = setup.folder.file("night.toml"), object = setup.folder.file("out.o");
    std::ofstream(object) << "before";
    std::ofstream(source) << "[[rule]]\nmodle = 1\npin = 2\n\"\\u0007\\u202e\" = 1\n";
    Outcome outcome = setup.run_plain({"policy", "build", source, "-o", object});
    BOOST_TEST(outcome.status == 1);
    BOOST_TEST(outcome.out == "");
    BOOST_TEST(contains(outcome.err, source + ":2:1: error: unknown key modle; did you mean model?"),
               outcome.err);
    BOOST_TEST(contains(outcome.err, source + ":3:7: error: pin: write true or false"), outcome.err);
    BOOST_TEST(contains(outcome.err, source + ":4:1: error: unknown key"), outcome.err);
    check_harmless(outcome.err);
    BOOST_TEST(read_file(object) == "before");
}

BOOST_AUTO_TEST_CASE(a_policy_in_c_is_built_without_a_flag_and_errors_are_the_compilers) {
    Setup setup;
    std::string source = setup.folder.file("mine.bpf.c"), object = setup.folder.file("mine.bpf.o");
    std::ofstream(source)
        << "#include \"tierd.bpf.h\"\nTIERD_POLICY(\"GPL\");\nTIERD_HOOK(epoch)\n{\n\treturn 0;\n}\n";
    Outcome outcome = setup.run_plain({"policy", "build", source});
    BOOST_TEST(outcome.status == 0, outcome.err);
    BOOST_TEST(outcome.out == object + "\n");
    BOOST_TEST(outcome.err == "");
    std::ofstream(source, std::ios::app) << "int wrong(void) { return missing; }\n";
    Outcome wrong = setup.run_plain({"policy", "build", source});
    BOOST_TEST(wrong.status == 1);
    BOOST_TEST(contains(wrong.err, source + ":7:26: error:"), wrong.err);
}

BOOST_AUTO_TEST_CASE(building_says_what_is_missing) {
    Setup setup;
    BOOST_TEST(setup.run_plain({"policy", "build", "x.txt"}).status == 2);
    BOOST_TEST(setup.run_plain({"policy"}).status == 2);
    BOOST_TEST(setup.run_plain({"policy", "build", setup.folder.file("none.toml")}).status == 1);
    setup.environment = {"TIERD_CLANG=clang-that-is-not-there"};
    Outcome outcome = setup.run_plain({"policy", "build", setup.folder.file("none.bpf.c")});
    BOOST_TEST(outcome.status == 1);
    BOOST_TEST(contains(outcome.err, "apt install clang-19"), outcome.err);
}

BOOST_AUTO_TEST_CASE(a_wrong_command_line_is_status_2_and_asks_nothing) {
    Setup setup;
    for (std::vector<std::string> arguments :
         std::vector<std::vector<std::string>>{{},
                                               {"explode"},
                                               {"pin"},
                                               {"status", "more"},
                                               {"models", "--tensors"},
                                               {"--sockets", "x", "status"},
                                               {"pin", "a", "b"}}) {
        Outcome outcome = setup.run(arguments);
        BOOST_TEST(outcome.status == 2, outcome.out << outcome.err);
        BOOST_TEST(!outcome.err.empty());
    }
    BOOST_TEST(setup.control.calls().empty());
}

BOOST_AUTO_TEST_CASE(help_has_examples_and_the_exit_statuses) {
    Setup setup;
    Outcome outcome = setup.run_plain({"--help"});
    BOOST_TEST(outcome.status == 0);
    BOOST_TEST(contains(outcome.out, "Examples:"), outcome.out);
    BOOST_TEST(contains(outcome.out, "3 tierd can't be reached"), outcome.out);
    for (const char* command :
         {"status", "models", "sessions", "tiers", "tensors", "preload", "pin", "unpin", "evict", "budget"})
        BOOST_TEST(setup.run_plain({command, "--help"}).status == 0);
    BOOST_TEST(setup.run_plain({"--version"}).status == 0);
}

BOOST_AUTO_TEST_CASE(without_tierd_the_status_is_3_and_the_message_says_how_to_start_it) {
    Setup setup;
    Outcome missing = setup.run_plain({"--socket", setup.config.socket, "status"});
    BOOST_TEST(missing.status == 3);
    BOOST_TEST(missing.out == "");
    BOOST_TEST(missing.err ==
               "tierctl: tierd can't be reached at " + setup.config.socket +
                   ": No such file or directory; is it running? systemctl start tierd, or use tierd-run\n");
    // A socket file whose owner died.
    setup.start();
    std::filesystem::create_hard_link(setup.config.socket, setup.folder.file("dead"));
    setup.server.reset();
    Outcome dead = setup.run_plain({"--socket", setup.folder.file("dead"), "status"});
    BOOST_TEST(dead.status == 3);
    BOOST_TEST(contains(dead.err, "Connection refused; is it running?"), dead.err);
    BOOST_TEST(setup.run_plain({"--socket", "/" + std::string(200, 'a'), "status"}).status == 2);
}

BOOST_AUTO_TEST_CASE(what_is_not_tierd_on_the_socket_is_status_3) {
    Setup setup;
    const Fd listener = itest::listen_at(setup.config.socket, SOCK_STREAM);
    for (const char* bytes :
         {"220 mail.example.org ESMTP\r\n", "", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes"}) {
        std::thread stranger([&] {
            Fd client(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
            char request[4096];
            if (::recv(client.get(), request, sizeof request, 0) > 0)
                ::send(client.get(), bytes, std::strlen(bytes), MSG_NOSIGNAL);
        });
        Outcome outcome = setup.run_plain({"--socket", setup.config.socket, "status"});
        stranger.join();
        BOOST_TEST(outcome.status == 3, outcome.err);
        BOOST_TEST(contains(outcome.err, "is that its control socket?"), outcome.err);
    }
}

BOOST_AUTO_TEST_CASE(the_socket_comes_from_the_environment_too) {
    Setup setup;
    setup.start();
    setup.environment = {"TIERD_CONTROL_SOCKET=" + setup.config.socket};
    BOOST_TEST(setup.run_plain({"status"}).status == 0);
    BOOST_TEST(setup.run_plain({"status", "--socket", "/nowhere"}).status == 3);
}

BOOST_AUTO_TEST_CASE(names_from_outside_can_not_reach_the_terminal) {
    Setup setup;
    const std::string evil =
        "a\x1b]0;owned\x07\n\r\x7f\xc2\x9b"
        "31m\xe2\x80\xae"
        "b\xff\xe2\x80\xa8";
    setup.control.known[0].name = evil;
    setup.control.known[0].backing = evil;
    setup.control.known[0].header_error = evil;
    setup.control.attached[0].command = evil;
    setup.control.inside[0].name = evil;
    setup.control.engine.notes = {evil};
    setup.control.engine.policy = evil;
    setup.control.memory[0].name = evil;
    setup.control.work.what = evil;
    for (const char* command : {"status", "models", "sessions", "tiers"}) {
        Outcome outcome = setup.run({command});
        BOOST_TEST(outcome.status == 0, outcome.err);
        BOOST_TEST(contains(outcome.out, "a\\x1b]0;owned\\x07\\x0a\\x0d\\x7f\\u{9b}31m\\u{202e}b"),
                   outcome.out);
        check_harmless(outcome.out);
    }
    check_harmless(setup.run({"tensors", "1", "--tensors"}).out);
    check_harmless(setup.run({"pin", "1"}).out);
    check_harmless(setup.run({"preload", "1"}).out);
    check_harmless(setup.run({"evict", evil}).out);
    check_harmless(setup.run({"pin", "no" + evil}).err);
    setup.server.reset();
    setup.control.job_error = evil;
    check_harmless(setup.run({"preload", "1"}).err);
    Outcome as_json = setup.run({"models", "--json"});
    check_harmless(as_json.out);
    BOOST_TEST(json::parse(as_json.out)["models"][0]["name"].get<std::string>().starts_with("a\x1b]0;"));
}

BOOST_AUTO_TEST_CASE(doctor_judges_the_machine_with_and_without_a_tierd) {
    Setup setup;
    std::ofstream(setup.folder.file("a.gguf")) << std::string(8192, 'w');
    Outcome alone =
        setup.run_plain({"--socket", setup.folder.file("none.sock"), "doctor", setup.folder.file("a.gguf")});
    BOOST_TEST(contains(alone.out, "userfaultfd"), alone.out);
    BOOST_TEST(contains(alone.out, "a.gguf"), alone.out);
    BOOST_TEST(contains(alone.out, "tierd can't be reached"), alone.out);
    Outcome beside = setup.run({"doctor", "--json"});
    json findings = json::parse(beside.out).at("findings");
    auto told = [&](const char* what, const char* found) {
        return std::ranges::any_of(findings, [&](const json& one) {
            return one.at("what") == what && contains(one.at("found").get<std::string>(), found);
        });
    };
    BOOST_TEST(told("tierd", "no hugetlb pages are reserved"), beside.out);  // a note of the running one
    BOOST_TEST(told("kernel", "."), beside.out);
}

BOOST_AUTO_TEST_CASE(doctor_fails_where_engines_could_not_be_served) {
    Setup setup;
    Outcome outcome = setup.run({"doctor", setup.folder.file("no-such-file")});
    BOOST_TEST(outcome.status == 1);
    BOOST_TEST(contains(outcome.out, "NO  weights"), outcome.out);
    BOOST_TEST(contains(outcome.out, "No such file"), outcome.out);
    BOOST_TEST(contains(outcome.err, "can't serve weights"), outcome.err);
}

BOOST_AUTO_TEST_CASE(a_trace_is_recorded_piece_by_piece_into_its_file) {
    Setup setup;
    std::string file = setup.folder.file("day.trace");
    Outcome outcome = setup.run({"trace", "record", file, "--seconds", "1"});
    BOOST_TEST(outcome.status == 0, outcome.err);
    BOOST_TEST(contains(outcome.out, "4 events and 2 lost"), outcome.out);
    std::string written = read_file(file);
    BOOST_TEST(written.starts_with("first middle "), written);
    BOOST_TEST(written.ends_with("middle last"), written);
    BOOST_TEST(setup.control.calls().back() == "stop trace");
}

BOOST_AUTO_TEST_CASE(a_trace_that_cannot_be_recorded_leaves_anothers_recording_alone) {
    Setup setup;
    setup.control.recorded_elsewhere = true;
    Outcome outcome = setup.run({"trace", "record", setup.folder.file("day.trace"), "--seconds", "1"});
    BOOST_TEST(outcome.status == 1);
    BOOST_TEST(contains(outcome.err, "another recording is running"), outcome.err);
    BOOST_TEST(setup.control.calls() == std::vector<std::string>{"start trace"},
               boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(nothing_is_recorded_for_a_file_that_cannot_be_written) {
    Setup setup;
    Outcome outcome = setup.run({"trace", "record", setup.folder.file("no/such/folder"), "--seconds", "1"});
    BOOST_TEST(outcome.status == 1);
    BOOST_TEST(setup.control.calls().empty());
    Outcome full = setup.run({"trace", "record", "/dev/full", "--seconds", "1"});
    BOOST_TEST(full.status == 1);
    BOOST_TEST(contains(full.err, "No space left"), full.err);
    BOOST_TEST(setup.control.calls().back() == "stop trace");
}
