// Recordings of perf, of engines that had their weights from tierd: they mapped its memory, and still each access is put
// down to the weight file, with tierd running and after it.
#define BOOST_TEST_MODULE recording
#include <sys/wait.h>

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <fstream>

#include "lib/base/bytes.h"
#include "tests/integration/harness.h"

using namespace tierd;
using namespace tierd::itest;

namespace {

constexpr uint64_t kExtents = 12;
const std::vector<uint32_t> kPlan = {3, 7, 11, 0};  // each once: the first touch is a fault for certain

struct Scene {
    Scene() {
        make_file(path, 3, kExtents * extent_bytes);
        std::vector<std::string> command = {"/usr/bin/env", "TIERD_MATCH=*.weights",
                                            "perf",         "record",
                                            "-q",           "-d",
                                            "-c",           "1",
                                            "-e",           "page-faults",
                                            "-o",           recording,
                                            "--",           programs_dir() + "/bin/tierd-run",
                                            "--socket",     daemon.socket(),
                                            "--",           build_dir() + "/tests/weight_toucher",
                                            path,           std::to_string(extent_bytes)};
        for (uint32_t extent : kPlan) command.push_back(std::to_string(extent));
        keeps.call("map path=" + path);
        int status = run_program(command, dir.file("perf.log"));
        BOOST_REQUIRE(tierctl({"models", "--json"}, models) == 0);
        if (status == 0) return;
        std::ifstream in(dir.file("perf.log"));
        std::string line;
        std::getline(in, line);
        skip_program("perf record does not work here (linux-perf, as root): " + line);
    }

    int tierctl(std::vector<std::string> words, const std::string& out) {
        words.insert(words.begin(), {programs_dir() + "/bin/tierctl", "--socket", dir.file("control.sock")});
        return run_program(words, out);
    }
    // Samples of each extent, by what tierctl makes of the recording; empty: it refused.
    std::vector<uint64_t> hot(const std::vector<std::string>& more) {
        std::vector<std::string> words = {"hot", "--from", recording, "--by", "extent", "--json"};
        words.insert(words.end(), more.begin(), more.end());
        const std::string out = dir.file("hot" + std::to_string(calls++) + ".json");
        if (tierctl(words, out) != 0) return {};
        std::ifstream in(out);
        const Json rows = Json::parse(in)["rows"];
        std::vector<uint64_t> samples(kExtents);
        for (const Json& row : rows) {
            const std::string name = row["name"];
            samples.at(std::stoul(name.substr(name.find(' ')))) = row["samples"];
        }
        return samples;
    }

    unsigned calls = 0;
    const uint64_t extent_bytes = 2 * kMiB;
    WorkDir dir;
    std::string path = dir.file("model.weights");
    std::string recording = dir.file("perf.data"), models = dir.file("models.json");
    Daemon daemon{dir, {.config = "[policy]\nread_ahead = false\n"}};
    ReaderProcess keeps{dir, {.socket = daemon.socket()}};  // a session for as long as the test
};

}  // namespace

BOOST_FIXTURE_TEST_CASE(accesses_to_tierds_memory_are_put_down_to_the_weight_file, Scene) {
    auto running = hot({});
    BOOST_REQUIRE(running.size() == kExtents);
    // The kernel may count a fault again when it is tried again.
    for (uint32_t extent = 0; extent < kExtents; extent++)
        BOOST_TEST((running[extent] > 0) == (std::ranges::find(kPlan, extent) != kPlan.end()),
                   "extent " << extent);
    daemon.stop();
    BOOST_TEST(hot({"--models", models}) == running, boost::test_tools::per_element());
    // Nobody is left to say what it stood for: that is said, and nothing guessed.
    BOOST_TEST(hot({}).empty());
    std::ofstream(dir.file("broken.json"))
        << R"({"models": [{"arena": 1}, 7, {"arena": "0:1:2", "path": 3}]})";
    BOOST_TEST(hot({"--models", dir.file("broken.json")}).empty());
}
