// Recordings: written by the real perf, and damaged by us.
#define BOOST_TEST_MODULE replay
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/test/unit_test.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>

#include "lib/base/bytes.h"
#include "lib/sample/replay.h"
#include "lib/sample/symbols.h"

namespace tierd {

namespace {

constexpr uint64_t kExtent = 64 * kKiB;
constexpr uint32_t kExtents = 24;

std::string program(const std::string& name) {
    const char* build = ::getenv("TIERD_BUILD_DIR");
    return std::string(build ? build : "build") + "/tests/" + name;
}

// A folder, a weight file in it, and recordings of processes that touch it.
struct Recorder {
    Recorder() {
        char form[] = "/tmp/tierd_replay_XXXXXX";
        folder = ::mkdtemp(form);
        weights = folder + "/model.gguf";
        // No header that anyone could read: the file is served, and replayed, as plain extents. Sparse: what is
        // touched is a hole.
        std::ofstream(weights) << "nothing";
        std::filesystem::resize_file(weights, kExtents * kExtent);
        std::ifstream(weights).ignore(kExtents *
                                      kExtent);  // into the page cache: no touch waits for the disk
    }
    ~Recorder() { std::filesystem::remove_all(folder); }

    // Runs `perf record -d`; the recording's path.
    std::string record(const std::string& events, const std::vector<uint32_t>& extents) {
        std::string path = folder + "/perf.data", log = folder + "/log";
        std::string command = "perf record -q -d -c 1 " + events + " -o " + path + " -- " +
                              program("weight_toucher") + " " + weights + " " + std::to_string(kExtent);
        for (uint32_t extent : extents) command += " " + std::to_string(extent);
        int status = std::system((command + " >" + log + " 2>&1").c_str());
        if (status == 0) return path;
        std::ifstream in(log);
        std::string line;
        std::getline(in, line);
        std::fprintf(stderr, "skipped: perf record does not work here (linux-perf, as root): %s\n",
                     line.c_str());
        std::exit(77);
    }

    std::string folder, weights;
};

ReplayConfig config() {
    return {.extent_bytes = kExtent,
            .is_weights = [](const std::string& path) { return is_weight_path(path, {}); }};
}

std::vector<std::byte> bytes_of(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    std::string text((std::istreambuf_iterator<char>(in)), {});
    std::vector<std::byte> bytes(text.size());
    std::memcpy(bytes.data(), text.data(), text.size());
    return bytes;
}

const std::vector<uint32_t> kPlan = {3, 7, 7, 3, 11, 3, 0, 23, 23, 23, 23};

}  // namespace

BOOST_AUTO_TEST_CASE(what_perf_recorded_is_attributed_to_the_extents_that_were_touched) {
    Recorder recorder;
    auto replay = replay_perf_data(recorder.record("-e page-faults", kPlan), config());
    BOOST_REQUIRE_MESSAGE(replay.has_value(), (replay ? "" : replay.error().text()));
    BOOST_REQUIRE(replay->files.size() == 1u);
    const ReplayedFile& file = replay->files[0];
    BOOST_TEST(file.file->name == "model.gguf");
    std::vector<uint64_t> expected(kExtents), seen(kExtents);
    for (uint32_t extent : kPlan) expected[extent]++;
    for (uint32_t extent = 0; extent < kExtents; extent++) seen[extent] = file.extents[extent].samples;
    BOOST_TEST(seen == expected, boost::test_tools::per_element());
    BOOST_TEST(replay->attributed == kPlan.size());
    BOOST_TEST(replay->elsewhere > 0u);  // the program's own pages
    BOOST_TEST(replay->counters.unreadable == 0u);
}

BOOST_AUTO_TEST_CASE(a_recording_of_two_events_counts_each_touch_in_both) {
    Recorder recorder;
    auto replay = replay_perf_data(recorder.record("-e page-faults -e minor-faults", kPlan), config());
    BOOST_REQUIRE(replay.has_value());
    BOOST_REQUIRE(replay->files.size() == 1u);
    BOOST_TEST(replay->files[0].extents[23].samples == 8u);
    BOOST_TEST(replay->attributed == 2 * kPlan.size());
    BOOST_TEST(replay->counters.unreadable == 0u);
}

BOOST_AUTO_TEST_CASE(the_function_that_reads_is_found_in_the_engines_binary) {
    Recorder recorder;
    auto replay = replay_perf_data(recorder.record("-e page-faults", kPlan), config());
    BOOST_REQUIRE(replay.has_value());
    auto rows = replay->readers.rows(HotBy::function);
    BOOST_REQUIRE(!rows.empty());
    Symbols symbols;
    BOOST_TEST(symbols.function_at(rows[0].object, rows[0].offset_bytes) == "touch_weights");
    auto threads = replay->readers.rows(HotBy::thread);
    BOOST_REQUIRE(threads.size() == 1u);
    BOOST_TEST(threads[0].samples == kPlan.size());
}

BOOST_AUTO_TEST_CASE(damaged_recordings_are_refused_or_read_but_never_believed) {
    Recorder recorder;
    auto sound = bytes_of(recorder.record("-e page-faults -e minor-faults", kPlan));
    std::mt19937 random(3);
    auto pick = [&](size_t below) { return std::uniform_int_distribution<size_t>(0, below - 1)(random); };
    PerfDataVisitor visitor{
        .sample = [](const AccessRecord&) {}, .mmap = [](const PerfMmap&) {}, .fork = {}, .exit = {}};
    BOOST_TEST(read_perf_data(std::span<const std::byte>(sound), visitor).has_value());
    for (int round = 0; round < 3000; round++) {
        auto broken = sound;
        if (round % 3 == 0) broken.resize(pick(broken.size()));
        for (size_t i = 0; i < 1 + pick(8) && !broken.empty(); i++) {
            size_t at = round % 2 == 0 ? pick(std::min<size_t>(broken.size(), 600)) : pick(broken.size());
            broken[at] = static_cast<std::byte>(pick(256));
        }
        (void)read_perf_data(std::span<const std::byte>(broken), visitor);
    }
}

BOOST_AUTO_TEST_CASE(what_is_no_recording_is_refused_with_the_reason) {
    Recorder recorder;
    auto refused = [&](const std::string& text) {
        std::string path = recorder.folder + "/x";
        std::ofstream(path) << text;
        auto read = replay_perf_data(path, config());
        BOOST_REQUIRE(!read.has_value());
        BOOST_TEST(!read.error().hint.empty());
        return read.error().code;
    };
    BOOST_TEST((refused("") == Code::bad_input));
    BOOST_TEST((refused("hello, this is not a recording of anything at all") == Code::bad_input));
    BOOST_TEST((refused("2ELIFREP" + std::string(100, '\0')) == Code::unsupported));
    std::string pipe = "PERFILE2";
    pipe += std::string("\x10\0\0\0\0\0\0\0", 8) + std::string(100, '\0');
    BOOST_TEST((refused(pipe) == Code::unsupported));
    BOOST_TEST(!replay_perf_data("/no/such/file", config()).has_value());
}

}  // namespace tierd
