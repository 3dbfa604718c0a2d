// A hundred models served at once by one tierd with memory for a few of them.
#define BOOST_TEST_MODULE many_models
#include <sys/stat.h>

#include <boost/test/unit_test.hpp>

#include "lib/base/bytes.h"
#include "tests/integration/harness.h"

using namespace tierd;
using namespace tierd::itest;

namespace {

constexpr unsigned kModels = 100;
constexpr uint64_t kModelBytes = 64 * kMiB;
constexpr uint64_t kIslandBytes = 2 * kMiB;
// Only these parts of each file exist on the disk; none begins where an extent does.
const std::vector<uint64_t> kIslands = {0, 17 * kMiB + 8192, 40 * kMiB + 4096, 62 * kMiB};

struct Hundred {
    Hundred() {
        for (unsigned m = 0; m < kModels; ++m)
            make_island_file(path(m), m + 1, kModelBytes, kIslands, kIslandBytes);
    }
    std::string path(unsigned m) const { return dir.file("model" + std::to_string(m) + ".weights"); }

    void map_all(ReaderProcess& reader) const {
        for (unsigned m = 0; m < kModels; ++m) {
            const Json told = reader.call("map path=" + path(m));
            BOOST_REQUIRE(told["result"] == 0);
            BOOST_REQUIRE(told["map"] == m);
        }
    }
    // Sends the commands that verify one island of each model, in an order that `salt` picks, and counts what
    // is wrong.
    void verify_all(ReaderProcess& reader, unsigned salt) const {
        for (uint64_t i = 0; i < kModels * kIslands.size(); ++i) {
            const uint64_t pick = (i * 77 + salt) % (kModels * kIslands.size());
            const auto m = unsigned(pick % kModels);
            const Json told =
                reader.call("verify map=" + std::to_string(m) + " seed=" + std::to_string(m + 1) +
                            " from=" + std::to_string(kIslands[pick / kModels]) +
                            " length=" + std::to_string(kIslandBytes));
            BOOST_TEST(all_right(told), path(m) + ": " + told.dump());
        }
    }
    WorkDir dir;
};

}  // namespace

BOOST_FIXTURE_TEST_CASE(a_hundred_models_in_two_processes_read_right_in_little_memory, Hundred) {
    Daemon daemon(dir, {.budget = "256MiB"});
    ReaderProcess first(dir, {.socket = daemon.socket()});
    ReaderProcess second(dir, {.socket = daemon.socket()});
    map_all(first);
    map_all(second);
    BOOST_TEST(daemon.get("/v1/models")["models"].size() == kModels);
    std::thread other([&] { verify_all(second, 201); });
    verify_all(first, 0);
    other.join();
    for (unsigned m : {0u, 50u, 99u})
        BOOST_TEST(is_all(first.call("backing map=" + std::to_string(m)), "arena"));
    const Json status = daemon.status();
    BOOST_TEST(status["models"] == kModels);
    BOOST_TEST(status["resident_peak_bytes"].get<uint64_t>() <= 256 * kMiB);
    BOOST_TEST(status["counters"]["evictions"].get<uint64_t>() > 0u);
    uint64_t held_bytes = 0;
    for (const Fd& arena : arenas_of(daemon.pid())) {
        struct stat st = {};
        fstat(arena.get(), &st);
        held_bytes += uint64_t(st.st_blocks) * 512;
    }
    BOOST_TEST(held_bytes <= 256 * kMiB);
}
