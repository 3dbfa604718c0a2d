// Every byte of a file read through tierd is the file's, in every order, by several readers, and while memory
// is taken away all the time; and the memory never exceeds the budget, as the kernel counts it.
#define BOOST_TEST_MODULE bytes
#include <boost/test/unit_test.hpp>

#include "lib/base/bytes.h"
#include "tests/integration/harness.h"

using namespace tierd;
using namespace tierd::itest;

namespace {

constexpr uint64_t kSeed = 11;
constexpr uint64_t kFileBytes = kGiB + 12345;  // ends inside an extent and inside a page

// One file for all tests of this program: writing it takes longer than most of them.
struct BigFile {
    BigFile() { make_file(path(), kSeed, kFileBytes); }
    static WorkDir& dir() {
        static WorkDir made;
        return made;
    }
    static std::string path() { return dir().file("big.weights"); }
};
BOOST_TEST_GLOBAL_FIXTURE(BigFile);

// A tierd that knows nothing yet and a file that no cache holds.
struct ColdDaemon {
    explicit ColdDaemon(const DaemonPlan& plan)
        : daemon((drop_cache(BigFile::path()), BigFile::dir()), plan) {}
    Daemon daemon;
};

std::string verify_line(const std::string& how) {
    return "verify seed=" + std::to_string(kSeed) + " " + how;
}

// Starts a reader that has the file mapped, on tierd's memory.
std::unique_ptr<ReaderProcess> attached_reader(const Daemon& daemon, const std::string& how = "") {
    auto reader = std::make_unique<ReaderProcess>(BigFile::dir(), ReaderPlan{.socket = daemon.socket()});
    reader->call("map path=" + BigFile::path() + " " + how);
    BOOST_TEST(is_all(reader->call("backing"), "arena"));
    return reader;
}

// One reader, one way of reading, `budget`; what the kernel counted must stay within the budget.
void read_under(const DaemonPlan& plan, const std::vector<std::string>& ways) {
    ColdDaemon cold(plan);
    ArenaSampler sampler(cold.daemon.pid());
    auto reader = attached_reader(cold.daemon);
    for (const std::string& way : ways) {
        const Json told = reader->call(verify_line(way));
        BOOST_TEST(all_right(told), way + ": " + told.dump());
    }
    BOOST_TEST(is_all(reader->call("backing"), "arena"));
    sampler.stop();
    const uint64_t budget = parse_bytes(plan.budget).value();
    const Json status = cold.daemon.status();
    BOOST_TEST_MESSAGE("peak " << sampler.peak_bytes() << " of " << budget << ", samples "
                               << sampler.samples() << ", " << status["counters"].dump());
    BOOST_TEST(sampler.peak_bytes() <= budget);
    BOOST_TEST(sampler.peak_bytes() > 0u);
    BOOST_TEST(status["resident_peak_bytes"].get<uint64_t>() <= budget);
    if (budget < kFileBytes) BOOST_TEST(status["counters"]["evictions"].get<uint64_t>() > 0u);
}

}  // namespace

BOOST_AUTO_TEST_CASE(a_cold_file_reads_right_sequentially) {
    read_under({.budget = "2GiB"}, {""});
}

BOOST_AUTO_TEST_CASE(a_cold_file_reads_right_page_by_page_in_random_order) {
    read_under({.budget = "2GiB"}, {"order=random"});
}

BOOST_AUTO_TEST_CASE(a_cold_file_reads_right_in_strides_of_eight_threads) {
    read_under({.budget = "2GiB"}, {"order=stride block=65536 threads=8"});
}

BOOST_AUTO_TEST_CASE(small_pages_and_small_extents_read_right) {
    read_under({.budget = "2GiB", .options = {"--huge-pages", "off"}},
               {"order=stride block=65536 threads=4"});
    read_under({.budget = "64MiB", .options = {"--extent", "64KiB"}},
               {"order=random block=65536 threads=4 length=268435456"});
}

BOOST_AUTO_TEST_CASE(eviction_all_the_time_never_shows_a_wrong_byte_nor_exceeds_the_budget) {
    read_under({.budget = "100MiB"}, {"passes=2", "order=random block=2097152 threads=8"});
    read_under({.budget = "100MiB", .options = {"--policy", "lru"}},
               {"order=stride block=1048576 threads=8"});
}

BOOST_AUTO_TEST_CASE(a_hugetlb_arena_evicts_within_the_budget_too) {
    read_under({.budget = "100MiB", .options = {"--huge-pages", "hugetlb"}},
               {"order=random block=2097152 threads=8"});
}

BOOST_AUTO_TEST_CASE(two_processes_share_one_copy) {
    ColdDaemon cold({.budget = "2GiB"});
    ArenaSampler sampler(cold.daemon.pid());
    auto first = attached_reader(cold.daemon);
    auto second = attached_reader(cold.daemon, "flags=shared");
    first->send(verify_line("threads=2"));
    second->send(verify_line("order=random block=1048576 threads=2"));
    BOOST_TEST(all_right(first->receive()));
    BOOST_TEST(all_right(second->receive()));
    sampler.stop();
    const uint64_t arena_bytes = round_up(kFileBytes, 2 * kMiB);
    BOOST_TEST(sampler.peak_bytes() <= arena_bytes);
    BOOST_TEST(cold.daemon.counter("bytes_read") <= arena_bytes);
}

BOOST_AUTO_TEST_CASE(two_processes_that_fight_for_little_memory_both_read_right) {
    ColdDaemon cold({.budget = "100MiB"});
    ArenaSampler sampler(cold.daemon.pid());
    auto first = attached_reader(cold.daemon);
    auto second = attached_reader(cold.daemon, "flags=shared");
    first->send(verify_line("threads=4"));
    second->send(verify_line("order=random block=2097152 threads=4"));
    BOOST_TEST(all_right(first->receive()));
    BOOST_TEST(all_right(second->receive()));
    sampler.stop();
    BOOST_TEST(sampler.peak_bytes() <= 100 * kMiB);
    BOOST_TEST(cold.daemon.status()["sessions"] == 2u);
}
