// disks_test.cc - the disks that weight files lie on: found, measured once with real reads, remembered over a restart.
#define BOOST_TEST_MODULE disks
#include <sys/stat.h>

#include <boost/test/unit_test.hpp>
#include <fstream>
#include <random>
#include <thread>

#include "lib/base/clock.h"
#include "lib/tier/disk.h"
#include "lib/tier/disk_probe.h"
#include "tests/integration/direct_client.h"
#include "tests/integration/harness.h"

using namespace tierd;
using namespace tierd::test;

namespace {

constexpr uint64_t kFileBytes = 40 * kMiB;

struct Setup {
    itest::WorkDir dir;
    std::string path = dir.file("model.weights");
    Setup() { itest::make_file(path, 3, kFileBytes); }

    std::unique_ptr<Engine> start(bool measure) {
        auto engine = Engine::start({.budget_bytes = 64 * kMiB,
                                     .epoch_ms = 10,
                                     .state_directory = dir.file("state"),
                                     .measure_disks = measure,
                                     .disk_idle_ms = 20});
        BOOST_REQUIRE_MESSAGE(engine.has_value(), (engine ? "" : engine.error().text()));
        return std::move(*engine);
    }
};

bool lies_on_a_disk(const std::string& path) {
    struct stat st{};
    return ::stat(path.c_str(), &st) == 0 && find_disk(st.st_dev).has_value();
}

std::optional<DiskFigures> probe(const std::string& path, const std::function<bool()>& may_go_on) {
    return probe_disk(*open_file(path, O_RDONLY), may_go_on);
}

}  // namespace

BOOST_FIXTURE_TEST_CASE(a_disk_is_measured_when_nobody_reads_and_not_again_after_a_restart, Setup) {
    if (!lies_on_a_disk(path)) {
        BOOST_TEST_MESSAGE("skipped: the tests' folder lies on no disk; set TMPDIR to one that does");
        return;
    }
    DiskStatus measured;
    {
        auto engine = start(true);
        BOOST_TEST(engine->disks().value().empty());
        DirectClient client(*engine);
        client.map(path);
        BOOST_TEST(itest::comes_true([&] { return engine->disks().value().front().measured_ns > 0; }, 30));
        measured = engine->disks().value().front();
        BOOST_TEST(measured.file_bytes == kFileBytes);
        BOOST_TEST(measured.size_bytes > kFileBytes);
        BOOST_TEST(measured.latency_ns > 0u);
        BOOST_REQUIRE(measured.reads.size() == 3u);
        for (const DiskSpeed& one : measured.reads) BOOST_TEST(one.bytes_per_s > 0u);
        BOOST_TEST(measured.reads[0].depth == 1u);
        BOOST_TEST(measured.reads[2].depth == 16u);
        // What it read is nobody's weights.
        BOOST_TEST(engine->status().value().counters.bytes_read == 0u);
        engine->stop(1000);
    }
    for (bool measure : {false, true}) {
        auto engine = start(measure);
        DirectClient client(*engine);
        client.map(path);
        DiskStatus known = engine->disks().value().at(0);
        BOOST_TEST(known.measured_ns == measured.measured_ns);
        BOOST_TEST(known.latency_ns == measured.latency_ns);
        BOOST_TEST(known.reads.at(2).bytes_per_s == measured.reads[2].bytes_per_s);
        engine->stop(1000);
    }
}

BOOST_FIXTURE_TEST_CASE(a_disk_is_left_alone_while_somebody_waits_for_it, Setup) {
    int asked = 0;
    BOOST_TEST(!probe(path, [&] { return ++asked < 3; }).has_value());
    BOOST_TEST(asked == 3);
    BOOST_TEST(!probe(path, [] { return false; }).has_value());
}

BOOST_FIXTURE_TEST_CASE(what_does_not_lie_on_the_disk_is_not_measured, Setup) {
    auto always = [] { return true; };
    std::string sparse = dir.file("sparse.weights"), small = dir.file("small.weights");
    std::ofstream(sparse).put('x');
    BOOST_REQUIRE(::truncate(sparse.c_str(), kGiB) == 0);
    BOOST_TEST(!probe(sparse, always).has_value());
    itest::make_file(small, 3, kMiB);
    BOOST_TEST(!probe(small, always).has_value());
    auto figures = probe(path, always);
    if (figures) BOOST_TEST(figures->speeds.size() == 3u);
}
