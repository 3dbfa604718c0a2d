// A file system that does not answer holds up whoever reads its file, as it would without tierd, and nobody else.
#define BOOST_TEST_MODULE security_slow_fs
#include <boost/test/unit_test.hpp>
#include <list>
#include <optional>

#include "lib/base/bytes.h"
#include "lib/base/clock.h"
#include "tests/integration/slow_fs.h"

using namespace tierd;
using namespace tierd::itest;

namespace {

constexpr uint64_t kSlowBytes = 64 * kMiB;
constexpr uint64_t kLocalBytes = 48 * kMiB;
constexpr double kMostStallMs =
    2000;  // far less than the deadline of a fault, which is what a hung read costs

struct Scene {
    explicit Scene(const std::string& huge_pages = "auto") {
        if (auto why = SlowFs::unusable(); !why.empty()) skip_program(why);
        make_file(local, 6, kLocalBytes);
        slow.emplace(dir.file("slow"), 9, kSlowBytes);
        // Not room for both files: the others' extents come and go all the while.
        daemon.emplace(dir, DaemonPlan{.budget = "64MiB", .options = {"--huge-pages", huge_pages}});
    }
    ~Scene() { slow.reset(); }  // before those who wait for it, and can't even be killed meanwhile

    // Somebody else is served as ever, also from the disk.
    void serves_others() const {
        drop_cache(local);
        ReaderProcess reader(dir, {.socket = daemon->socket()});
        reader.call("map path=" + local);
        BOOST_TEST(is_all(reader.call("backing"), "arena"));
        for (const char* how : {"order=random block=65536 threads=4", "threads=1"}) {
            const Json told = reader.call(std::string("verify seed=6 ") + how);
            BOOST_TEST(all_right(told), told.dump());
            BOOST_TEST(told["stall_ms"].get<double>() < kMostStallMs, told.dump());
        }
        BOOST_TEST(is_all(reader.call("backing"), "arena"));
        BOOST_TEST(reader.finish() == 0);
    }
    ReaderProcess& start_slow_reader() {
        ReaderProcess& reader = slow_readers.emplace_back(dir, ReaderPlan{.socket = daemon->socket()});
        reader.call("map path=" + slow->path());
        BOOST_TEST(is_all(reader.call("backing"), "arena"));
        return reader;
    }
    // As many threads as tierd has reads for the file, and more, wait for it.
    void hang(ReaderProcess& reader) {
        slow->hold_reads();
        reader.send("verify seed=9 threads=24 order=stride block=2097152");
        BOOST_TEST(comes_true([&] { return slow->held() >= 4; }));
    }

    WorkDir dir;
    std::string local = dir.file("local.weights");
    std::optional<SlowFs> slow;
    std::optional<Daemon> daemon;
    std::list<ReaderProcess> slow_readers;
};

struct SmallPages : Scene {
    SmallPages() : Scene("off") {}
};

}  // namespace

BOOST_FIXTURE_TEST_CASE(a_slow_file_system_that_answers_is_served_like_any_other, Scene) {
    ReaderProcess& reader = start_slow_reader();
    const Json told = reader.call("verify seed=9 threads=4 order=random block=65536");
    BOOST_TEST(all_right(told), told.dump());
    BOOST_TEST(is_all(reader.call("backing"), "arena"));
}

BOOST_FIXTURE_TEST_CASE(a_file_whose_reads_hang_delays_nobody, Scene) {
    ReaderProcess& reader = start_slow_reader();
    hang(reader);
    serves_others();
    BOOST_TEST(daemon->ask("POST", "/v1/models/local.weights/preload").status == 202);
    serves_others();
}

// Reads into small pages pass through buffers, of which there are few.
BOOST_FIXTURE_TEST_CASE(a_file_whose_reads_hang_takes_nobody_the_last_buffer, SmallPages) {
    ReaderProcess& reader = start_slow_reader();
    hang(reader);
    serves_others();
}

BOOST_FIXTURE_TEST_CASE(a_header_that_cant_be_read_holds_up_its_own_session_alone, Scene) {
    slow->hold_reads();
    ReaderProcess& reader = slow_readers.emplace_back(dir, ReaderPlan{.socket = daemon->socket()});
    reader.send("map path=" + slow->path());
    BOOST_TEST(comes_true([&] { return slow->held() > 0; }));
    serves_others();
}

BOOST_FIXTURE_TEST_CASE(a_file_that_cant_be_closed_delays_nobody, Scene) {
    ReaderProcess& reader = start_slow_reader();
    BOOST_TEST(all_right(reader.call("verify seed=9 length=4194304")));
    BOOST_TEST(reader.finish() == 0);
    BOOST_TEST(comes_true([&] { return daemon->status()["sessions"] == 0u; }));
    slow->hold_closes();
    BOOST_TEST(comes_true([&] {
        daemon->ask("POST", "/v1/models/model.weights/evict");
        return daemon->get("/v1/models")["models"].empty();
    }));
    BOOST_TEST(comes_true([&] { return slow->held() > 0; }));
    serves_others();
}
