// guest_daemon_test.cc - the daemon, the preloaded library and a reader on real memory nodes: every byte is verified while
// extents are promoted, demoted, drained, and their memory goes offline or is pulled.
#include <fmt/format.h>

#include <boost/test/unit_test.hpp>
#include <cstring>

#include "lib/base/bytes.h"
#include "tests/guest/machine.h"
#include "tests/guest/placement.h"
#include "tests/guest/two_tiers.h"
#include "tests/integration/harness.h"

using namespace tierd;
using namespace tierd::itest;

namespace {

constexpr uint64_t kSeed = 11;
// Small tiers, so that a drain is soon over; together less than the file.
struct Shape {
    uint64_t extent_kib = 64;
    uint64_t file_mib = 24;
    uint64_t gpu_mib = 4, dram_mib = 6, cxl_mib = 6;
    unsigned epoch_ms = 10;
    bool read_ahead = true;
    std::string migrate_limit = "0";
};

std::string config_of(const Shape& shape) {
    return fmt::format(R"(
[session]
deadline_ms = 60000
[policy]
name = "lru"
epoch_ms = {}
read_ahead = {}
[tiers]
migrate_limit = "{}"
{})",
                       shape.epoch_ms, shape.read_ahead, shape.migrate_limit,
                       guest::two_tiers(shape.gpu_mib, shape.cxl_mib));
}

int tierctl(const Daemon& daemon, const WorkDir& dir, std::vector<std::string> words) {
    std::string control = daemon.socket();
    control.replace(control.rfind("tierd.sock"), 10, "control.sock");
    std::vector<std::string> argv = {build_dir() + "/bin/tierctl", "--socket", control};
    argv.insert(argv.end(), words.begin(), words.end());
    return run_program(argv, dir.file("tierctl.log"));
}

Json tier(const Daemon& daemon, const std::string& name) {
    Json tiers = daemon.get("/v1/tiers");
    for (const Json& one : tiers["tiers"])
        if (one["name"] == name) return one;
    return nullptr;
}

struct Setup {
    WorkDir dir;
    std::string path = dir.file("model.weights");
    Daemon daemon;
    ReaderProcess reader;

    explicit Setup(const Shape& shape = {})
        : daemon((make_file(path, kSeed, shape.file_mib * kMiB), dir), plan(shape)),
          reader(dir, {.socket = daemon.socket()}) {
        reader.call("map path=" + path);
        BOOST_TEST(is_all(reader.call("backing"), "arena"));
    }
    static DaemonPlan plan(const Shape& shape) {
        return {.budget = fmt::format("{}MiB", shape.dram_mib),
                .options = {"--extent", fmt::format("{}KiB", shape.extent_kib), "--policy", "lru"},
                .config = config_of(shape)};
    }
    void begin() { reader.call("verify seed=11 until=stop threads=2 order=random block=65536"); }
    void end() {
        Json told = reader.call("stop");
        BOOST_TEST(all_right(told), told.dump());
        BOOST_TEST(told.at("bytes").get<uint64_t>() > 0u);
        BOOST_TEST(is_all(reader.call("backing"), "arena"));
    }
    uint64_t used(const std::string& name) const {
        Json one = tier(daemon, name);
        return one.is_null() ? 0 : one["used_bytes"].get<uint64_t>();
    }
    void agree() const { BOOST_TEST(guest::placement_disagreement(daemon, reader.pid()) == ""); }
    // The reader pauses: the daemon's table, move_pages and numa_maps say the same of every page.
    void check_placement() {
        end();
        agree();
    }
    // Extents of [from, from + length) that are in the tier.
    uint64_t extents_in(const std::string& name, uint64_t from, uint64_t length) const {
        uint64_t number = tier(daemon, name).at("number"), count = 0;
        Json map = daemon.get("/v1/models/model.weights/heatmap");
        for (const Json& extent : map.at("extents")) {
            auto offset = extent.at("offset_bytes").get<uint64_t>();
            bool inside = offset >= from && offset < from + length;
            count += inside && extent.at("resident").get<bool>() && extent.at("tier") == number;
        }
        return count;
    }
    // A new process reads the range and ends.
    void read_anew(uint64_t from, uint64_t length) const {
        ReaderProcess other(dir, {.socket = daemon.socket()});
        other.call("map path=" + path);
        Json told = other.call(fmt::format("verify seed=11 from={} length={}", from, length));
        BOOST_TEST(all_right(told), told.dump());
    }
};

// What lies in the slowest tier is touched by one session after the other, while every tier is full: it changes places with
// what is in the fastest.
void exchange_hot_and_cold(const Shape& shape) {
    Setup setup(shape);
    const uint64_t extent = shape.extent_kib * kKiB;
    const uint64_t fast = shape.gpu_mib * kMiB, all = (shape.gpu_mib + shape.dram_mib + shape.cxl_mib) * kMiB;
    const uint64_t hot = fast / 2, from = all - 4 * extent - hot;
    Json told = setup.reader.call(fmt::format("verify seed=11 length={}", all - 4 * extent));
    BOOST_TEST(all_right(told), told.dump());
    setup.agree();
    const uint64_t wanted = hot / extent / 2;
    for (int round = 0; round < 60 && setup.extents_in("hbm1", from, hot) < wanted; round++) {
        setup.read_anew(from, hot);
        if (round % 10 == 9) setup.agree();
    }
    BOOST_TEST(setup.extents_in("hbm1", from, hot) >= wanted);
    BOOST_TEST(setup.extents_in("hbm1", 0, fast) < fast / extent);
    BOOST_TEST(setup.daemon.counter("moves") >= 2 * wanted);
    setup.agree();
    setup.read_anew(0, shape.file_mib * kMiB);
    setup.agree();
}

}  // namespace

BOOST_AUTO_TEST_CASE(every_byte_is_right_while_extents_move_a_thousand_times) {
    Setup setup;
    for (int round = 0; round < 60 && setup.daemon.counter("moves") < 1000; round++) {
        setup.begin();
        const char* name = round % 2 == 0 ? "hbm1" : "cxl2";
        BOOST_TEST(tierctl(setup.daemon, setup.dir, {"tier", "drain", name}) == 0);
        BOOST_TEST(setup.used(name) == 0u);
        setup.check_placement();
        setup.begin();
        BOOST_TEST(tierctl(setup.daemon, setup.dir, {"tier", "add", name}) == 0);
        // The reader fills it again.
        BOOST_TEST(comes_true([&] { return setup.used(name) >= 3 * kMiB; }, 60));
        setup.check_placement();
    }
    BOOST_TEST(setup.daemon.counter("moves") >= 1000u);
    BOOST_TEST_MESSAGE(setup.daemon.counter("moves")
                       << " moves, " << setup.daemon.counter("moves_refused") << " refused");
}

BOOST_AUTO_TEST_CASE(moves_go_at_a_pace_between_the_limit_and_a_part_of_it_that_readers_waits_decide) {
    constexpr uint64_t kLimit = 16 * kMiB;
    Setup setup({.migrate_limit = "16MiB"});
    auto moves = [&] { return setup.daemon.status().at("moves"); };
    BOOST_TEST(moves().at("limit_bytes_per_s") == kLimit);
    BOOST_TEST(moves().at("pace_bytes_per_s") == kLimit);
    BOOST_TEST(moves().at("reader_slowdown").is_null());
    setup.begin();
    for (int round = 0; round < 60 && moves().at("reader_slowdown").is_null(); round++) {
        const char* name = round % 2 == 0 ? "hbm1" : "cxl2";
        BOOST_TEST(tierctl(setup.daemon, setup.dir, {"tier", "drain", name}) == 0);
        BOOST_TEST(tierctl(setup.daemon, setup.dir, {"tier", "add", name}) == 0);
        BOOST_TEST(comes_true([&] { return setup.used(name) >= 3 * kMiB; }, 60));
        auto pace = moves().at("pace_bytes_per_s").get<uint64_t>();
        BOOST_TEST(pace <= kLimit);
        BOOST_TEST(pace >= kLimit / 16);
    }
    // It was judged by waits with moves and without.
    BOOST_REQUIRE(!moves().at("reader_slowdown").is_null());
    BOOST_TEST(moves().at("reader_slowdown").get<double>() > 0.0);
    BOOST_TEST_MESSAGE("moves: " << moves().dump());
    setup.check_placement();
}

BOOST_AUTO_TEST_CASE(hot_and_cold_extents_change_places_though_every_tier_is_full) {
    exchange_hot_and_cold({.read_ahead = false});
}

BOOST_AUTO_TEST_CASE(so_do_extents_of_2_mib) {
    exchange_hot_and_cold({.extent_kib = 2048,
                           .file_mib = 72,
                           .gpu_mib = 16,
                           .dram_mib = 16,
                           .cxl_mib = 24,
                           .read_ahead = false});
}

BOOST_AUTO_TEST_CASE(a_tier_that_is_added_is_used_within_one_epoch) {
    Setup setup({.epoch_ms = 2000});
    setup.begin();
    BOOST_TEST(comes_true([&] { return setup.used("hbm1") > 0; }, 60));
    bool known = false;
    // A look that itself takes longer than an epoch proves nothing: then once more.
    for (int attempt = 0; attempt < 5 && !known; attempt++) {
        BOOST_TEST(tierctl(setup.daemon, setup.dir, {"tier", "drain", "hbm1"}) == 0);
        BOOST_TEST(setup.used("hbm1") == 0u);
        const uint64_t before = setup.daemon.counter("epochs");
        BOOST_TEST(tierctl(setup.daemon, setup.dir, {"tier", "add", "hbm1"}) == 0);
        BOOST_TEST(comes_true([&] { return setup.used("hbm1") > 0; }, 60));
        // Adding begins an epoch at once; the next one is the one after.
        const uint64_t passed = setup.daemon.counter("epochs") - before;
        known = passed <= 2;
        BOOST_TEST_MESSAGE("used when " << passed << " epochs had begun");
    }
    BOOST_TEST(known);
    setup.check_placement();
}

BOOST_AUTO_TEST_CASE(what_others_move_is_brought_together_or_counted_where_it_is) {
    Setup setup;
    setup.begin();
    BOOST_TEST(comes_true([&] { return setup.used("cxl2") >= 3 * kMiB && setup.used("hbm1") > 0; }, 60));
    setup.check_placement();
    // A page in the midst of each extent.
    for (size_t step : {7, 16, 1}) {
        BOOST_TEST(guest::move_behind_its_back(setup.daemon, 2, 0, step) > 0u);
        BOOST_TEST(guest::placement_disagreement(setup.daemon, setup.reader.pid()) == "");
    }
    setup.begin();
    setup.check_placement();
}

BOOST_AUTO_TEST_CASE(memory_that_goes_offline_under_load_loses_nothing) {
    Setup setup;
    setup.begin();
    BOOST_TEST(comes_true([&] { return setup.used("cxl2") > 0; }, 60));
    std::vector<int> offline;
    // The block that the node was born with holds the kernel's own pages and stays; others may stay if they are busy.
    for (int block : guest::memory_blocks(2)) {
        int refused = guest::set_block_online(block, false);
        if (refused == 0) offline.push_back(block);
        if (refused != 0)
            BOOST_TEST_MESSAGE("block " << block << " stays online: " << std::strerror(refused));
    }
    BOOST_TEST(!offline.empty());
    for (int block : offline) BOOST_TEST(guest::set_block_online(block, true) == 0);
    setup.check_placement();
}

BOOST_AUTO_TEST_CASE(memory_that_is_plugged_in_is_used_at_once_and_may_be_pulled_again) {
    Setup setup;
    setup.begin();
    guest::plug_memory("used", 3, 128);
    BOOST_TEST(comes_true([&] { return setup.used("cxl3") > 0; }, 60));
    setup.check_placement();
    setup.begin();
    guest::pull_memory("used", 3);
    BOOST_TEST(comes_true([&] { return tier(setup.daemon, "cxl3").is_null(); }, 60));
    setup.check_placement();
}
