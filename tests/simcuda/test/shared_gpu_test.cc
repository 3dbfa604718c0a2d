// shared_gpu_test.cc - several processes on one simulated GPU: what one holds the others lack, until it gives it back or
// dies.
#define BOOST_TEST_MODULE simcuda_shared_gpu
#include <unistd.h>

#include <boost/test/unit_test.hpp>
#include <filesystem>
#include <memory>

#include "tests/simcuda/test/child.h"

using namespace simcuda_test;

namespace {

constexpr unsigned long long kMiB = 1 << 20;

struct SharedGpu {
    std::string path =
        (std::filesystem::temp_directory_path() / ("simcuda-" + std::to_string(::getpid()))).string();
    ~SharedGpu() { std::filesystem::remove(path); }

    std::unique_ptr<Child> worker() const {
        auto child = std::make_unique<Child>(std::vector<std::string>{WORKER},
                                             Environment{{"SIMCUDA_GPU", path}, {"SIMCUDA_MEMORY", "64MiB"}});
        BOOST_REQUIRE_EQUAL(child->line(), "ready");
        return child;
    }
};

std::string ask(Child& worker, const std::string& what) {
    worker.say(what + "\n");
    return worker.line();
}

}  // namespace

BOOST_FIXTURE_TEST_CASE(what_one_process_holds_the_others_lack, SharedGpu) {
    auto a = worker(), b = worker();
    BOOST_TEST(ask(*a, "take " + std::to_string(40 * kMiB)) == "0");
    BOOST_TEST(ask(*b, "info") == std::to_string(24 * kMiB));
    BOOST_TEST(ask(*b, "take " + std::to_string(40 * kMiB)) == "2");
    BOOST_TEST(ask(*a, "free") == "0");
    BOOST_TEST(ask(*b, "take " + std::to_string(40 * kMiB)) == "0");
}

BOOST_FIXTURE_TEST_CASE(a_process_that_is_killed_holds_nothing, SharedGpu) {
    auto a = worker(), b = worker();
    BOOST_TEST(ask(*a, "take " + std::to_string(60 * kMiB)) == "0");
    BOOST_TEST(ask(*b, "take " + std::to_string(60 * kMiB)) == "2");
    a->kill();
    a->wait();
    BOOST_TEST(ask(*b, "take " + std::to_string(60 * kMiB)) == "0");
}

BOOST_FIXTURE_TEST_CASE(processes_that_come_and_are_killed_leave_no_trace, SharedGpu) {
    auto watcher = worker();
    for (int round = 0; round < 20; ++round) {
        std::vector<std::unique_ptr<Child>> crowd;
        for (int i = 0; i < 8; ++i) crowd.push_back(worker());
        for (auto& one : crowd) BOOST_TEST(ask(*one, "take " + std::to_string(8 * kMiB)) == "0");
        BOOST_TEST(ask(*watcher, "info") == "0");
        for (auto& one : crowd) one->kill();
        for (auto& one : crowd) one->wait();
        BOOST_TEST(ask(*watcher, "info") == std::to_string(64 * kMiB));
    }
}

BOOST_FIXTURE_TEST_CASE(a_gpu_of_another_size_is_refused_aloud, SharedGpu) {
    auto a = worker();
    Child other({WORKER}, {{"SIMCUDA_GPU", path}, {"SIMCUDA_MEMORY", "1GiB"}});
    BOOST_TEST(other.rest().starts_with("simcuda: cuInit: cannot use SIMCUDA_MEMORY"));
    BOOST_TEST(WIFSIGNALED(other.wait()));
}
