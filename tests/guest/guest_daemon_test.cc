// guest_daemon_test.cc - the daemon, the preloaded library and a reader on real memory nodes: every byte is verified while
// extents are promoted, demoted, drained, and their memory goes offline or is pulled.
#include <boost/test/unit_test.hpp>
#include <cstring>

#include "lib/base/bytes.h"
#include "tests/guest/machine.h"
#include "tests/guest/placement.h"
#include "tests/integration/harness.h"

using namespace tierd;
using namespace tierd::itest;

namespace {

constexpr uint64_t kSeed = 11;
constexpr uint64_t kFileBytes = 24 * kMiB;
// Small tiers, so that a drain is soon over; together less than the file.
constexpr const char* kConfig = R"(
[session]
deadline_ms = 60000
[policy]
name = "lru"
epoch_ms = 10
[tiers]
migrate_limit = "0"
[[tier]]
name = "hbm1"
capacity = "4MiB"
[[tier]]
name = "cxl2"
capacity = "6MiB"
)";

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

    Setup()
        : daemon((make_file(path, kSeed, kFileBytes), dir), plan()),
          reader(dir, {.socket = daemon.socket()}) {
        reader.call("map path=" + path);
        BOOST_TEST(is_all(reader.call("backing"), "arena"));
    }
    static DaemonPlan plan() {
        return {.budget = "6MiB", .options = {"--extent", "64KiB", "--policy", "lru"}, .config = kConfig};
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
    // The reader pauses: the daemon's table, move_pages and numa_maps say the same of every page.
    void check_placement() {
        end();
        std::string told = guest::placement_disagreement(daemon, reader.pid());
        BOOST_TEST(told == "");
    }
};

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
