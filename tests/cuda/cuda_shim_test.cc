// cuda_shim_test.cc - programs of the CUDA driver see the same bytes and the same answers with the preloaded library as
// without it, however little of the card they get and whoever dies beside them. On the simulated card.
#define BOOST_TEST_MODULE cuda_shim
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

#include <boost/test/unit_test.hpp>
#include <fstream>
#include <random>
#include <sstream>

#include "tests/integration/harness.h"

using namespace tierd::itest;

namespace {

std::string tests_dir() {
    return build_dir() + "/tests/";
}

std::string text_of(const std::string& path) {
    std::ifstream in(path);
    std::stringstream text;
    text << in.rdbuf();
    return text.str();
}

struct Run {
    int status = 0;
    std::string output;
    std::string log;

    bool fine() const { return WIFEXITED(status) && WEXITSTATUS(status) == 0; }
};

struct Card {
    std::string memory = "256MiB";
    std::string file;  // that processes share; empty: each its own
};

// A program on the simulated card; with `more` in its environment, e.g. the preloaded library's.
class Program {
  public:
    Program(const WorkDir& dir, const std::string& name, std::vector<std::string> argv, const Card& card,
            std::vector<std::string> more)
        : output_(dir.file(name + ".out")),
          log_(dir.file(name + ".log")),
          process_(start(argv, card, more)) {}

    Run wait() {
        int status = process_.wait();
        return {status, text_of(output_), text_of(log_)};
    }
    void kill() { process_.send(SIGKILL); }
    pid_t pid() const { return process_.pid(); }
    const std::string& log() const { return log_; }

  private:
    Process start(std::vector<std::string>& argv, const Card& card, std::vector<std::string>& more) {
        Process::Plan plan;
        argv[0] = tests_dir() + argv[0];
        plan.argv = argv;
        plan.environment = more;
        plan.environment.push_back("LD_LIBRARY_PATH=" + build_dir() + "/simcuda");
        plan.environment.push_back("SIMCUDA_MEMORY=" + card.memory);
        plan.environment.push_back("SIMCUDA_POISON=1");
        plan.environment.push_back("SIMCUDA_MISUSE=error");
        plan.environment.push_back("SIMCUDA_KERNELS=" + tests_dir() + "tierd_hash_kernel.so");
        plan.environment.push_back("TEST_KERNELS=" + tests_dir() + "simcuda_test_kernels.so");
        if (!card.file.empty()) plan.environment.push_back("SIMCUDA_CARD=" + card.file);
        plan.log = log_;
        const tierd::Fd out(::open(output_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
        plan.out = out.get();
        return Process(plan);
    }
    const std::string output_;
    const std::string log_;
    Process process_;
};

std::vector<std::string> preloaded(std::vector<std::string> more) {
    more.push_back("LD_PRELOAD=" + build_dir() + "/lib/libtierd_shim.so");
    more.push_back("TIERD_LOG=info");
    more.push_back(std::string("TIERD_MATCH=") + kMatch);
    return more;
}

std::vector<std::string> under(const Daemon& daemon) {
    return preloaded({"TIERD_SOCKET=" + daemon.socket()});
}

// The number before `what` in the line that the library writes at the end.
uint64_t counted(const std::string& log, const std::string& what) {
    size_t at = log.find("tierd-shim: card: ");
    if (at == std::string::npos) return 0;
    size_t word = log.find(what, at);
    if (word == std::string::npos) return 0;
    size_t begin = log.find_last_not_of("0123456789", word - 2) + 1;
    return std::stoull(log.substr(begin));
}

struct Weights {
    std::string path;
    explicit Weights(const WorkDir& dir) : path(dir.file("model.weights")) { make_file(path, 7, 12 << 20); }
};

DaemonPlan sharing(const std::string& capacity) {
    return {.budget = "64MiB", .config = "[hbm]\ncapacity = \"" + capacity + "\"\nslice_ms = 20\n"};
}

constexpr const char* kAsExpected = "every byte as expected";

}  // namespace

BOOST_AUTO_TEST_CASE(every_way_in_leads_to_our_functions_and_no_further) {
    WorkDir dir;
    Run plain = Program(dir, "plain", {"cuda_ways_in"}, {}, {}).wait();
    Run ours = Program(dir, "ours", {"cuda_ways_in"}, {}, preloaded({})).wait();
    Run off = Program(dir, "off", {"cuda_ways_in"}, {}, preloaded({"TIERD_CUDA=off"})).wait();
    BOOST_TEST(plain.fine());
    BOOST_TEST(plain.output.find(": ours") == std::string::npos);
    for (const char* way : {"direct cuMemAlloc_v2", "dlsym cuLaunchKernel", "dlsym default cuLaunchKernel",
                            "dlsym cuLaunchKernel_ptsz", "query cuMemAlloc", "query cuMemcpyHtoDAsync legacy",
                            "query cuMemcpyHtoDAsync per thread", "query cuGetProcAddress"})
        BOOST_TEST(ours.output.find(std::string(way) + ": ours\n") != std::string::npos, way << "\n"
                                                                                             << ours.output);
    for (const char* way : {"direct cuDeviceGetName", "dlsym cuDeviceGetName", "query cuDeviceGetName",
                            "libc strlen", "libc next malloc"})
        BOOST_TEST(ours.output.find(std::string(way) + ": driver\n") != std::string::npos,
                   way << "\n"
                       << ours.output);
    for (const char* way :
         {"dlsym cuNoSuchFunction: nowhere", "stream flavours differ: yes", "dlerror tells: yes"})
        BOOST_TEST(ours.output.find(way) != std::string::npos, way << "\n" << ours.output);
    // dlvsym finds ours exactly where it finds the driver's: a driver without symbol versions has none.
    bool versioned = plain.output.find("dlvsym cuMemAlloc_v2: driver") != std::string::npos;
    BOOST_TEST((ours.output.find("dlvsym cuMemAlloc_v2: ours") != std::string::npos) == versioned);
    BOOST_TEST(off.output.find("dlsym cuLaunchKernel: driver") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(without_a_daemon_everything_is_the_drivers) {
    WorkDir dir;
    Weights weights(dir);
    Run run = Program(dir, "alone", {"cuda_sequences", "1", "20", weights.path}, {},
                      preloaded({"TIERD_SOCKET=" + dir.file("nobody.sock")}))
                  .wait();
    BOOST_TEST(run.output.find(kAsExpected) != std::string::npos, run.output << run.log);
    BOOST_TEST(run.log.find("tierd-shim: card:") == std::string::npos);
}

BOOST_AUTO_TEST_CASE(out_of_memory_and_queries_are_answered_as_the_driver_would) {
    WorkDir dir;
    Card card{.memory = "64MiB", .file = {}};
    Run plain = Program(dir, "plain", {"cuda_out_of_memory"}, card, {}).wait();
    Run ours =
        Program(dir, "ours", {"cuda_out_of_memory"}, card, preloaded({"TIERD_HBM_LIMIT=16777216"})).wait();
    BOOST_TEST(plain.fine());
    BOOST_TEST(ours.output == plain.output);
}

BOOST_AUTO_TEST_CASE(random_sequences_see_every_byte_at_every_size_of_the_card) {
    WorkDir dir;
    Weights weights(dir);
    for (const char* capacity : {"64MiB", "16MiB", "12MiB"}) {
        Daemon daemon(dir, sharing(capacity));
        Run run = Program(dir, std::string("on-") + capacity, {"cuda_sequences", "1", "150", weights.path},
                          {}, under(daemon))
                      .wait();
        BOOST_TEST(run.output.find(kAsExpected) != std::string::npos, run.output << run.log);
        BOOST_TEST(counted(run.log, "bytes deferred") > 1000000u, run.log);
        if (capacity == std::string("12MiB")) {
            BOOST_TEST(counted(run.log, "dropped") > 0u, run.log);
            BOOST_TEST(counted(run.log, "saved, ") > 0u, run.log);
        }
        daemon.stop();
    }
}

BOOST_AUTO_TEST_CASE(eight_processes_take_turns_on_a_card_that_holds_a_quarter_of_them) {
    WorkDir dir;
    Weights weights(dir);
    // 8 programs of up to 24 MiB each, 12 MiB at once; the card would not hold what the leases don't allow.
    Card card{.memory = "48MiB", .file = dir.file("card")};
    Daemon daemon(dir, sharing("24MiB"));
    std::vector<std::unique_ptr<Program>> programs;
    for (int i = 0; i < 8; i++)
        programs.push_back(std::make_unique<Program>(
            dir, "p" + std::to_string(i),
            std::vector<std::string>{"cuda_sequences", std::to_string(1000 * i), "25", weights.path}, card,
            under(daemon)));
    uint64_t most_leased = 0, waits = 0;
    for (auto& program : programs) {
        const Json tiers = daemon.get("/v1/tiers");
        for (const Json& tier : tiers["tiers"])
            if (tier["kind"] == "hbm") most_leased = std::max<uint64_t>(most_leased, tier["used_bytes"]);
        Run run = program->wait();
        BOOST_TEST(run.output.find(kAsExpected) != std::string::npos, run.output << run.log);
        waits += counted(run.log, "waits");
    }
    BOOST_TEST(most_leased <= 24u << 20);
    BOOST_TEST(waits > 8u);  // they did wait for each other
    BOOST_TEST(comes_true([&] { return daemon.get("/v1/tiers")["tiers"].back()["used_bytes"] == 0; }));
}

BOOST_AUTO_TEST_CASE(a_process_that_is_killed_leaves_its_lease_to_the_others) {
    WorkDir dir;
    Weights weights(dir);
    Card card{.memory = "48MiB", .file = dir.file("card")};
    Daemon daemon(dir, sharing("16MiB"));
    std::mt19937 random(1);
    std::vector<std::unique_ptr<Program>> programs;
    auto begin = [&](int number) {
        std::string name = "k" + std::to_string(number);
        programs.push_back(std::make_unique<Program>(
            dir, name,
            std::vector<std::string>{"cuda_sequences", std::to_string(number * 100), "20", weights.path},
            card, under(daemon)));
    };
    for (int i = 0; i < 6; i++) begin(i);
    for (int i = 0; i < 3; i++) {
        std::this_thread::sleep_for(std::chrono::milliseconds(100 + random() % 300));
        programs[i]->kill();
    }
    for (size_t i = 0; i < programs.size(); i++) {
        Run run = programs[i]->wait();
        bool killed = WIFSIGNALED(run.status) && WTERMSIG(run.status) == SIGKILL;
        BOOST_TEST((killed || run.output.find(kAsExpected) != std::string::npos), run.output << run.log);
        if (i >= 3) BOOST_TEST(!killed);
    }
    BOOST_TEST(comes_true([&] { return daemon.get("/v1/tiers")["tiers"].back()["used_bytes"] == 0; }));
}

BOOST_AUTO_TEST_CASE(when_tierd_is_killed_every_process_goes_on_with_the_lease_it_had) {
    WorkDir dir;
    Weights weights(dir);
    Card card{.memory = "96MiB", .file = dir.file("card")};
    Daemon daemon(dir, sharing("24MiB"));
    Program one(dir, "one", {"cuda_sequences", "1", "60", weights.path}, card, under(daemon));
    Program two(dir, "two", {"cuda_sequences", "500", "60", weights.path}, card, under(daemon));
    BOOST_TEST(
        comes_true([&] { return text_of(two.log()).find("shares the card out") != std::string::npos; }));
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    daemon.send(SIGKILL);
    for (Program* program : {&one, &two}) {
        Run run = program->wait();
        BOOST_TEST(run.output.find(kAsExpected) != std::string::npos, run.output << run.log);
    }
}
