// uvm_test.cc - where elastic memory is managed memory (TIERD_CUDA=uvm), programs see the same bytes, kernels find what they
// touch on the GPU, weights go home without a transfer, and no more is asked for than the GPU has free. Simulated GPU.
#define BOOST_TEST_MODULE uvm
#include <boost/test/unit_test.hpp>
#include <fstream>

#include "tests/cuda/program.h"

using namespace tierd::itest;

namespace {

constexpr uint64_t kMiB = 1 << 20;

struct ManagedRun : Run {
    Json stats;

    Words checksums() const { return checksums_of(output); }
};

// A program of the build on a simulated GPU of 64 MiB, 8 of which its context takes.
ManagedRun run(const WorkDir& dir, Words command, Words more = {}) {
    command[0] = build_dir() + "/" + command[0];
    std::string out = dir.file("out"), log = dir.file("log"), stats = dir.file("stats");
    Process::Plan plan{.argv = command, .environment = more, .log = log};
    for (const std::string& variable :
         {"LD_LIBRARY_PATH=" + build_dir() + "/simcuda", std::string("SIMCUDA_MEMORY=64MiB"),
          std::string("SIMCUDA_CONTEXT_BYTES=8MiB"), std::string("SIMCUDA_POISON=1"),
          "SIMCUDA_STATS=" + stats, "SIMCUDA_KERNELS=" + build_dir() + "/simcuda/mini_kernels.so",
          "TEST_KERNELS=" + build_dir() + "/tests/simcuda_test_kernels.so"})
        plan.environment.push_back(variable);
    std::ofstream(log).close();
    const tierd::Fd to(::open(out.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    plan.out = to.get();
    ManagedRun result;
    result.status = Process(plan).wait();
    result.output = text_of(out);
    result.log = text_of(log);
    if (result.fine()) result.stats = Json::parse(text_of(stats));
    return result;
}

Words managed_under(const Daemon& daemon) {
    return preloaded({"TIERD_CUDA=uvm", "TIERD_SOCKET=" + daemon.socket()});
}

DaemonPlan roomy(const std::string& capacity) {
    DaemonPlan plan = sharing(capacity);
    plan.budget = "128MiB";
    return plan;
}

// 8 layers of 4 MiB, and what the processor computes of them.
struct Model {
    WorkDir dir;
    std::string path = dir.file("model.safetensors");
    Words expected = run(dir, {"simcuda/mini_infer", path, "--make-layers", "8", "--make-width", "1024",
                               "--reference", "--repeat", "3"})
                         .checksums();
};

ManagedRun ask(const Model& model, const Daemon& daemon, Words command) {
    command.insert(command.begin() + 1, model.path);
    command.insert(command.end(), {"--repeat", "3"});
    ManagedRun result = run(model.dir, command, managed_under(daemon));
    BOOST_TEST(result.checksums() == model.expected, boost::test_tools::per_element());
    BOOST_TEST_CONTEXT(result.log) BOOST_REQUIRE(result.fine());
    BOOST_TEST(result.log.find("bytes deferred") != std::string::npos, result.log);
    return result;
}

uint64_t count_of(const ManagedRun& run, const char* what) {
    return run.stats[what];
}

}  // namespace

BOOST_AUTO_TEST_CASE(every_way_to_load_and_run_gives_the_same_checksum) {
    Model model;
    BOOST_REQUIRE(model.expected.size() == 3u);
    Daemon daemon(model.dir, roomy("56MiB"));
    for (Words way :
         {Words{"--load", "pytorch"}, Words{"--load", "llama"}, Words{"--graph"}, Words{"--pool"}}) {
        way.insert(way.begin(), "simcuda/mini_infer");
        ask(model, daemon, way);
    }
    ask(model, daemon, {"simcuda/mini_driver", "--ptx", build_dir() + "/simcuda/mini_kernels.ptx"});
}

BOOST_AUTO_TEST_CASE(kernels_find_what_they_touch_on_the_gpu_and_weights_go_home_without_a_transfer) {
    Model model;
    Daemon daemon(model.dir, roomy("20MiB"));  // of 33 MiB of weights
    ManagedRun result =
        ask(model, daemon, {"simcuda/mini_driver", "--ptx", build_dir() + "/simcuda/mini_kernels.ptx"});
    BOOST_TEST(count_of(result, "managed_faults") == 0u);
    BOOST_TEST(count_of(result, "peak_bytes") <= (8 + 20 + 1) * kMiB);
    BOOST_TEST(count_of(result, "managed_bytes_to_device") > 2 * 32 * kMiB);
    // What is not of weights alone: activations, and the last chunk of an allocation.
    BOOST_TEST(count_of(result, "managed_bytes_to_host") < count_of(result, "managed_bytes_to_device") / 4);
}

BOOST_AUTO_TEST_CASE(no_more_managed_memory_is_asked_for_than_the_gpu_has_free) {
    Model model;
    Daemon daemon(model.dir, roomy("56MiB"));
    ManagedRun result = ask(model, daemon, {"simcuda/mini_infer", "--load", "pytorch"});
    BOOST_TEST(count_of(result, "managed_most_bytes") > 32 * kMiB);
    BOOST_TEST(count_of(result, "managed_most_bytes") < (64 - 8) * kMiB);
    // And an engine is told so: of 56 MiB that are free 54 can be had, by 8, and then CUDA's own error.
    ManagedRun full = run(model.dir, {"tests/cuda_out_of_memory"}, managed_under(daemon));
    BOOST_TEST(full.output.starts_with("6 allocations, then error 2\n6 of 54 MiB free\n"),
               full.output << full.log);
    BOOST_TEST(full.fine());
}

BOOST_AUTO_TEST_CASE(random_sequences_see_every_byte_at_every_size_of_the_gpu) {
    WorkDir dir;
    std::string weights = dir.file("model.weights");
    make_file(weights, 7, 12 << 20);
    for (const char* capacity : {"48MiB", "12MiB"}) {
        Daemon daemon(dir, roomy(capacity));
        ManagedRun result = run(dir, {"tests/cuda_sequences", "1", "40", weights}, managed_under(daemon));
        BOOST_TEST(result.output.find("every byte as expected") != std::string::npos,
                   result.output << result.log);
        BOOST_TEST(result.log.find("bytes deferred") != std::string::npos, result.log);
        daemon.stop();
    }
}
