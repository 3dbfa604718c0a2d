// Hints on huge pages, from end to end: tierd asks the preloaded library to unmap a page of an extent, and the next
// touch is seen, timed and attributed - while extents are evicted, mappings go, processes fork, and sessions and tierd die.
#define BOOST_TEST_MODULE arm_hint
#include <boost/test/unit_test.hpp>
#include <csignal>

#include "lib/base/bytes.h"
#include "tests/integration/harness.h"

using namespace tierd;
using namespace tierd::itest;

namespace {

constexpr uint64_t kExtent = 2 * kMiB;
constexpr uint32_t kExtents = 8;
constexpr uint64_t kSeed = 21;

struct Scene {
    Scene() {
        make_file(path, kSeed, kExtents * kExtent);
        ReaderProcess first = reader();
        first.call("map path=" + path);
        BOOST_TEST(all_right(first.call(verify)));
        model = "/v1/models/" + daemon.get("/v1/models")["models"][0]["name"].get<std::string>();
    }

    ReaderProcess reader() { return ReaderProcess(dir, {.socket = daemon.socket()}); }
    ReaderProcess mapped_reader() {
        ReaderProcess one = reader();
        one.call("map path=" + path);
        BOOST_TEST(is_all(one.call("backing"), "arena"));
        return one;
    }
    uint64_t seen() const { return daemon.counter("hints_touched"); }
    // Until so many more touches were seen for having been hinted.
    void await_touches(uint64_t more) const {
        const uint64_t before = seen();
        BOOST_REQUIRE_MESSAGE(
            comes_true([&] { return seen() >= before + more; }, 60),
            "waited for " << more << " hinted touches beyond " << before << ", came " << seen() - before);
    }

    const std::string verify = "verify seed=" + std::to_string(kSeed) + " order=random";
    const std::string read_on = verify + " until=stop";
    WorkDir dir;
    std::string path = dir.file("model.weights");
    Daemon daemon{dir,
                  {.budget = "64MiB",
                   .options = {"--huge-pages", "thp"},
                   .config = "[sample]\nsource = \"hint\"\n[policy]\nepoch_ms = 10\n"}};
    std::string model;
};

}  // namespace

BOOST_FIXTURE_TEST_CASE(touches_of_huge_pages_are_seen_and_put_down_to_their_extent_and_thread, Scene) {
    ReaderProcess one = mapped_reader();
    BOOST_TEST(all_right(one.call(verify)));
    one.call(read_on + " from=" + std::to_string(3 * kExtent) + " length=" + std::to_string(kExtent));
    Json extents;
    BOOST_TEST(comes_true([&] {
        extents = daemon.get(model + "/heatmap")["extents"];
        return extents[3]["samples"] >= 10u;
    }));
    BOOST_REQUIRE(extents.size() == kExtents);
    for (uint32_t i = 0; i < kExtents; i++) {
        if (i == 3) continue;
        BOOST_TEST(extents[i]["heat"] < extents[3]["heat"], extents[i].dump());
    }
    const Json by_extent = daemon.get("/v1/hot/extent")["rows"];
    BOOST_TEST(by_extent[0]["name"] == "extent 3");
    const Json by_thread = daemon.get("/v1/hot/thread")["rows"];
    BOOST_REQUIRE(!by_thread.empty());
    const std::string thread = by_thread[0]["name"];
    BOOST_TEST(thread.starts_with(std::to_string(one.pid()) + "/"), thread);
    BOOST_TEST(all_right(one.call("stop")));
}

BOOST_FIXTURE_TEST_CASE(hints_and_evictions_of_huge_pages_show_right_bytes_within_the_budget, Scene) {
    ArenaSampler sampler(daemon.pid());
    ReaderProcess one = mapped_reader(), other = mapped_reader();
    one.call(read_on);
    other.call(read_on);
    for (int round = 0; round < 10; round++) {
        await_touches(3);
        BOOST_TEST(daemon.ask("POST", model + "/evict").status == 200);
    }
    BOOST_TEST(all_right(one.call("stop")));
    BOOST_TEST(all_right(other.call("stop")));
    sampler.stop();
    BOOST_TEST(sampler.peak_bytes() <= 64 * kMiB);
}

BOOST_FIXTURE_TEST_CASE(mappings_come_and_go_while_their_extents_are_hinted, Scene) {
    ReaderProcess steady = mapped_reader(), changing = reader();
    steady.call(read_on);
    const uint64_t before = seen();
    uint64_t rounds = 0;
    BOOST_TEST(comes_true([&] {
        const std::string map = " map=" + std::to_string(2 * rounds);
        changing.call("map path=" + path);
        // A part of another mapping lies in it.
        changing.call("map path=" + path + " offset=" + std::to_string(kExtent) +
                      " length=" + std::to_string(3 * kExtent));
        BOOST_TEST(all_right(changing.call(verify + map)));
        BOOST_TEST(changing.call("munmap from=" + std::to_string(kExtent) +
                                 " length=" + std::to_string(2 * kExtent) + map)["result"] == 0);
        BOOST_TEST(changing.call("map-zeros-over from=" + std::to_string(4 * kExtent) +
                                 " length=" + std::to_string(kExtent) + map)["result"] == 0);
        BOOST_TEST(all_right(changing.call(verify + map + " length=" + std::to_string(kExtent))));
        BOOST_TEST(all_right(changing.call(verify + " map=" + std::to_string(2 * rounds + 1))));
        BOOST_TEST(changing.call("munmap map=" + std::to_string(2 * rounds + 1))["result"] == 0);
        return ++rounds >= 5 && seen() >= before + 20;
    }));
    BOOST_TEST(all_right(steady.call("stop")));
}

BOOST_FIXTURE_TEST_CASE(forks_of_a_process_whose_extents_are_hinted_read_right_bytes, Scene) {
    ReaderProcess steady = mapped_reader(), forking = mapped_reader();
    steady.call(read_on);
    const uint64_t before = seen();
    unsigned forks = 0;
    BOOST_TEST(comes_true([&] {
        const Json told = forking.call("fork-" + verify);
        BOOST_TEST(all_right(told), told.dump());
        BOOST_TEST(told["child_status"] == 0);
        return ++forks >= 5 && seen() >= before + 20;
    }));
    BOOST_TEST(is_all(forking.call("backing"), "arena"));
    BOOST_TEST(all_right(steady.call("stop")));
}

BOOST_FIXTURE_TEST_CASE(a_session_that_dies_with_hints_out_leaves_those_of_others_and_tierd_may_die_too,
                        Scene) {
    ReaderProcess steady = mapped_reader();
    steady.call(read_on);
    for (int round = 0; round < 3; round++) {
        ReaderProcess dying = mapped_reader();
        dying.call(read_on);
        await_touches(5);
        ::kill(dying.pid(), SIGKILL);
        await_touches(5);
    }
    BOOST_TEST(comes_true([&] { return daemon.get("/v1/sessions")["sessions"].size() == 1u; }));
    daemon.send(SIGKILL);
    daemon.wait();
    BOOST_TEST(comes_true([&] { return !holds_userfaultfd(steady.pid()); }));
    BOOST_TEST(all_right(steady.call("stop")));
    BOOST_TEST(all_right(steady.call(verify)));
}
