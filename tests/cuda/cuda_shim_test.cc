// cuda_shim_test.cc - programs of the CUDA driver see the same bytes and the same answers with the preloaded library as
// without it, however little of the GPU they get and whoever dies beside them. On the simulated GPU.
#define BOOST_TEST_MODULE cuda_shim
#include <boost/test/unit_test.hpp>
#include <random>

#include "tests/cuda/program.h"

using namespace tierd::itest;

namespace {

struct Weights {
    std::string path;
    explicit Weights(const WorkDir& dir) : path(dir.file("model.weights")) { make_file(path, 7, 12 << 20); }
};

std::string setting(const char* name, const char* otherwise) {
    const char* value = std::getenv(name);
    return value != nullptr ? value : otherwise;
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
    BOOST_TEST(run.log.find("tierd-shim: GPU:") == std::string::npos);
}

BOOST_AUTO_TEST_CASE(out_of_memory_and_queries_are_answered_as_the_driver_would) {
    WorkDir dir;
    Gpu gpu{.memory = "66MiB", .file = {}};
    Daemon daemon(dir, sharing("16MiB"));
    for (const char* context : {"0", "4194304"}) {
        Words more{std::string("SIMCUDA_CONTEXT_BYTES=") + context}, limited = more, leased = under(daemon);
        limited.push_back("TIERD_GPU_LIMIT=16777216");
        leased.insert(leased.end(), more.begin(), more.end());
        Run plain = Program(dir, "plain", {"cuda_out_of_memory"}, gpu, more).wait();
        Run limit = Program(dir, "limited", {"cuda_out_of_memory"}, gpu, preloaded(limited)).wait();
        Run ours = Program(dir, "ours", {"cuda_out_of_memory"}, gpu, leased).wait();
        BOOST_TEST(plain.fine());
        BOOST_TEST(limit.output == plain.output);
        BOOST_TEST(ours.output == plain.output);
    }
}

BOOST_AUTO_TEST_CASE(the_ways_that_engines_seldom_take_give_the_same_bytes_and_answers) {
    WorkDir dir;
    Weights weights(dir);
    Daemon daemon(dir, sharing("16MiB"));
    for (const char* context : {"primary", "own"}) {
        Run plain =
            Program(dir, std::string("plain-") + context, {"cuda_other_ways", weights.path, context}, {}, {})
                .wait();
        Run ours = Program(dir, std::string("ours-") + context, {"cuda_other_ways", weights.path, context},
                           {}, under(daemon))
                       .wait();
        BOOST_TEST(plain.fine(), plain.output << plain.log);
        BOOST_TEST(plain.output.find("wrong") == std::string::npos, plain.output);
        BOOST_TEST(ours.output == plain.output, ours.log);
        BOOST_TEST(counted(ours.log, "bytes deferred") > 0u, ours.log);
    }
}

BOOST_AUTO_TEST_CASE(a_tierd_that_hangs_holds_nobody_up) {
    WorkDir dir;
    Weights weights(dir);
    Daemon daemon(dir, sharing("12MiB"));
    Program one(dir, "one", {"cuda_sequences", "1", "60", weights.path}, {}, under(daemon));
    BOOST_TEST(
        comes_true([&] { return text_of(one.log()).find("shares the GPU out") != std::string::npos; }));
    daemon.send(SIGSTOP);
    Run run = one.wait();
    BOOST_TEST(run.output.find(kAsExpected) != std::string::npos, run.output << run.log);
    daemon.send(SIGCONT);
}

// Small chunks, so that a sequence costs milliseconds. TIERD_SEQUENCES=10000 runs as many at each size;
// TIERD_SEQUENCES_FIRST is the seed of the first.
BOOST_AUTO_TEST_CASE(random_sequences_see_every_byte_at_every_size_of_the_gpu) {
    WorkDir dir;
    Weights weights(dir);
    std::string first = setting("TIERD_SEQUENCES_FIRST", "1"),
                count = setting("TIERD_SEQUENCES", DEFAULT_SEQUENCES);
    for (const char* capacity : {"4MiB", "512KiB", "256KiB"}) {
        Daemon daemon(dir, sharing(capacity));
        Words environment = under(daemon);
        environment.insert(environment.end(), {"SIMCUDA_GRANULARITY=64KiB", "TIERD_CUDA_CHUNK_BYTES=65536",
                                               "TIERD_CUDA_MIN_BYTES=32768"});
        Run run = Program(dir, std::string("on-") + capacity,
                          {"cuda_sequences", first, count, weights.path, "32768"},
                          {.memory = "16MiB", .file = {}}, environment)
                      .wait();
        BOOST_TEST_MESSAGE(capacity << ": " << run.output << run.log);
        BOOST_TEST(run.output.find(kAsExpected) != std::string::npos,
                   "replay the seed with TIERD_SEQUENCES=1 TIERD_SEQUENCES_FIRST=SEED\n"
                       << run.output << run.log);
        BOOST_TEST(counted(run.log, "bytes deferred") > 0u, run.log);
        if (capacity != std::string("4MiB") && count != "1") {
            BOOST_TEST(counted(run.log, "dropped") > 0u, run.log);
            BOOST_TEST(counted(run.log, "saved, ") > 0u, run.log);
        }
        daemon.stop();
    }
}

// Four threads need five parts of 256 KiB; with room for all the gate is open, with room for three it closes under them.
BOOST_AUTO_TEST_CASE(threads_that_launch_on_streams_of_their_own_see_every_byte) {
    WorkDir dir;
    Weights weights(dir);
    for (const char* capacity : {"4MiB", "768KiB"}) {
        Daemon daemon(dir, sharing(capacity));
        Words environment = under(daemon);
        environment.insert(environment.end(), {"SIMCUDA_GRANULARITY=64KiB", "TIERD_CUDA_CHUNK_BYTES=65536",
                                               "TIERD_CUDA_MIN_BYTES=32768"});
        Run run = Program(dir, std::string("threads-") + capacity,
                          {"cuda_threads", "4", "40", weights.path, "262144"},
                          {.memory = "16MiB", .file = {}}, environment)
                      .wait();
        BOOST_TEST(run.fine(), run.output << run.log);
        BOOST_TEST(run.output.find(kAsExpected) != std::string::npos, run.output << run.log);
        BOOST_TEST(counted(run.log, "bytes deferred") == 262144u, run.log);
        BOOST_TEST((counted(run.log, "dropped") > 0u) == (capacity != std::string("4MiB")), run.log);
        daemon.stop();
    }
}

BOOST_AUTO_TEST_CASE(random_sequences_see_every_byte_with_chunks_as_they_ship) {
    WorkDir dir;
    Weights weights(dir);
    Daemon daemon(dir, sharing("12MiB"));
    Run run = Program(dir, "large", {"cuda_sequences", "1", "40", weights.path}, {}, under(daemon)).wait();
    BOOST_TEST(run.output.find(kAsExpected) != std::string::npos, run.output << run.log);
    BOOST_TEST(counted(run.log, "dropped") > 0u, run.log);
    BOOST_TEST(counted(run.log, "saved, ") > 0u, run.log);
}

BOOST_AUTO_TEST_CASE(eight_processes_take_turns_on_a_gpu_that_holds_a_quarter_of_them) {
    WorkDir dir;
    Weights weights(dir);
    // 8 programs of up to 24 MiB each, 12 MiB at once; the GPU would not hold what the leases don't allow.
    Gpu gpu{.memory = "48MiB", .file = dir.file("gpu")};
    Daemon daemon(dir, sharing("24MiB"));
    std::vector<std::unique_ptr<Program>> programs;
    for (int i = 0; i < 8; i++)
        programs.push_back(std::make_unique<Program>(
            dir, "p" + std::to_string(i),
            std::vector<std::string>{"cuda_sequences", std::to_string(1000 * i), "25", weights.path}, gpu,
            under(daemon)));
    uint64_t most_leased = 0, waits = 0;
    for (auto& program : programs) {
        for (const Json& tier : listed(daemon, "tiers"))
            if (tier["kind"] == "gpu") most_leased = std::max<uint64_t>(most_leased, tier["used_bytes"]);
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
    Gpu gpu{.memory = "48MiB", .file = dir.file("gpu")};
    Daemon daemon(dir, sharing("16MiB"));
    std::mt19937 random(1);
    std::vector<std::unique_ptr<Program>> programs;
    auto begin = [&](int number) {
        std::string name = "k" + std::to_string(number);
        programs.push_back(std::make_unique<Program>(
            dir, name,
            std::vector<std::string>{"cuda_sequences", std::to_string(number * 100), "20", weights.path}, gpu,
            under(daemon)));
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
    Gpu gpu{.memory = "96MiB", .file = dir.file("gpu")};
    Daemon daemon(dir, sharing("24MiB"));
    Program one(dir, "one", {"cuda_sequences", "1", "60", weights.path}, gpu, under(daemon));
    Program two(dir, "two", {"cuda_sequences", "500", "60", weights.path}, gpu, under(daemon));
    BOOST_TEST(
        comes_true([&] { return text_of(two.log()).find("shares the GPU out") != std::string::npos; }));
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    daemon.send(SIGKILL);
    for (Program* program : {&one, &two}) {
        Run run = program->wait();
        BOOST_TEST(run.output.find(kAsExpected) != std::string::npos, run.output << run.log);
    }
}
