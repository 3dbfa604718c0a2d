#define BOOST_TEST_MODULE migrate
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/test/unit_test.hpp>
#include <cstring>
#include <future>
#include <numeric>
#include <random>

#include "lib/base/bytes.h"
#include "lib/base/clock.h"
#include "lib/base/fd.h"
#include "lib/migrate/migrator.h"

using namespace tierd;

namespace {

// A memory file with known bytes, mapped once; its pages stand on this machine's nodes.
class Pages {
  public:
    explicit Pages(uint64_t bytes) : fd_(::memfd_create("tierd-migrate-test", MFD_CLOEXEC)) {
        BOOST_REQUIRE(::ftruncate(fd_.get(), static_cast<off_t>(bytes)) == 0);
        mapping_ = map();
        for (uint64_t i = 0; i < bytes / 8; i++) words()[i] = i * 0x9e3779b97f4a7c15;
    }
    Mapping map() const {
        struct stat st{};
        ::fstat(fd_.get(), &st);
        auto length = static_cast<size_t>(st.st_size);
        return {::mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd_.get(), 0), length};
    }
    PageRange range() const { return {mapping_.data(), mapping_.size_bytes(), 4096}; }
    uint64_t* words() const { return reinterpret_cast<uint64_t*>(mapping_.data()); }
    bool right() const {
        for (uint64_t i = 0; i < mapping_.size_bytes() / 8; i++)
            if (words()[i] != i * 0x9e3779b97f4a7c15) return false;
        return true;
    }
    int fd() const { return fd_.get(); }

  private:
    Fd fd_;
    Mapping mapping_;
};

MoveResult carry_one(const MoveRequest& request) {
    return migrate_pages(std::span(&request, 1), {}).front();
}

int node_here(const Pages& pages) {
    return find_pages(pages.range()).value().bytes_on.begin()->first;
}

// Collects what a migrator tells.
struct Told {
    std::mutex mutex;
    std::condition_variable wake;
    std::vector<MoveResult> results;

    Migrator::Done taker() {
        return [this](const MoveResult& result) {
            std::lock_guard lock(mutex);
            results.push_back(result);
            wake.notify_all();
        };
    }
    std::vector<MoveResult> wait_for(size_t count) {
        std::unique_lock lock(mutex);
        bool came = wake.wait_for(lock, std::chrono::seconds(20), [&] { return results.size() >= count; });
        BOOST_REQUIRE(came);
        return results;
    }
};

}  // namespace

BOOST_AUTO_TEST_CASE(pages_are_found_where_they_are_and_holes_nowhere) {
    Pages pages(64 * 4096);
    int node = node_here(pages);
    auto placed = find_pages(pages.range()).value();
    BOOST_TEST(placed.bytes_on[node] == 64u * 4096);
    BOOST_TEST(placed.absent_bytes == 0u);
    BOOST_TEST(placed.bytes_off(std::vector{node}) == 0u);
    BOOST_TEST(placed.bytes_off(std::vector{node + 1}) == 64u * 4096);
    ::fallocate(pages.fd(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096);
    BOOST_TEST(find_pages(pages.range()).value().absent_bytes == 4096u);
}

BOOST_AUTO_TEST_CASE(huge_pages_are_known_as_such_until_one_of_them_is_mapped_by_parts) {
    constexpr uint64_t kHuge = 2 * kMiB;
    Mapping capacity(::mmap(nullptr, 5 * kHuge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
                     5 * kHuge);
    char* at = reinterpret_cast<char*>(round_up(reinterpret_cast<uint64_t>(capacity.data()), kHuge));
    ::madvise(at, 4 * kHuge, MADV_HUGEPAGE);
    PageRange range{at, 4 * kHuge, 4096};
    BOOST_REQUIRE(::madvise(at, range.length_bytes, MADV_POPULATE_WRITE) == 0);
    auto found = mapped_page_bytes(range);
    if (!found || *found != kHuge) {
        BOOST_TEST_MESSAGE("skipped: this kernel does not tell huge pages, or has none to give");
        return;
    }
    BOOST_TEST(find_pages(range).value().absent_bytes == 0u);
    BOOST_TEST(carry_one({.range = range, .to = {find_pages(range).value().bytes_on.begin()->first}}).bytes ==
               4 * kHuge);
    // A hole in one of them.
    BOOST_REQUIRE(::madvise(at + kHuge + 4096, 4096, MADV_DONTNEED) == 0);
    BOOST_TEST(mapped_page_bytes(range).value() == 4096u);
    BOOST_TEST(find_pages(range).value().absent_bytes == 4096u);
    BOOST_TEST(mapped_page_bytes({at + 2 * kHuge, 2 * kHuge, 4096}).value() == kHuge);
    // What does not begin where a huge page does is asked for page by page.
    BOOST_TEST(mapped_page_bytes({at + 2 * kHuge + 4096, 4096, 4096}).value() == 4096u);
}

BOOST_AUTO_TEST_CASE(a_page_that_is_not_mapped_here_is_mapped_before_it_is_looked_for) {
    Pages pages(16 * 4096);
    Mapping second = pages.map();
    PageRange range{second.data(), second.size_bytes(), 4096};
    BOOST_TEST(find_pages(range).value().absent_bytes == 16u * 4096);
    BOOST_TEST(map_pages(range).has_value());
    BOOST_TEST(find_pages(range).value().absent_bytes == 0u);
}

BOOST_AUTO_TEST_CASE(a_hole_is_refused_and_stays_a_hole) {
    Pages pages(16 * 4096);
    ::fallocate(pages.fd(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 4096);
    auto result = carry_one({.range = pages.range(), .to = {0}});
    BOOST_TEST((result.outcome == MoveOutcome::refused));
    BOOST_TEST(result.error == ENOENT);
    struct stat st{};
    ::fstat(pages.fd(), &st);
    BOOST_TEST(st.st_blocks * 512 == 15 * 4096);
}

BOOST_AUTO_TEST_CASE(what_is_there_already_has_moved_without_moving) {
    Pages pages(512 * 4096);
    auto result = carry_one({.tag = 5, .range = pages.range(), .to = {node_here(pages)}});
    BOOST_TEST((result.outcome == MoveOutcome::moved));
    BOOST_TEST(result.tag == 5u);
    BOOST_TEST(result.bytes == 512u * 4096);
    BOOST_TEST(result.moved_bytes == 0u);
    BOOST_TEST(result.attempts == 0u);
}

BOOST_AUTO_TEST_CASE(a_node_that_is_not_there_is_refused_with_its_reason_and_nothing_changes) {
    Pages pages(512 * 4096);
    int here = node_here(pages);
    auto result = carry_one({.range = pages.range(), .to = {931}, .from = {here}});
    BOOST_TEST((result.outcome == MoveOutcome::refused));
    BOOST_TEST(result.error == ENODEV);
    BOOST_TEST(result.attempts == 1u);
    BOOST_TEST(move_error_text(result.error) == "no such node, or it has no memory");
    BOOST_TEST(node_here(pages) == here);
    BOOST_TEST(pages.right());
}

BOOST_AUTO_TEST_CASE(one_wrong_target_does_not_refuse_the_moves_beside_it) {
    Pages first(64 * 4096), second(64 * 4096);
    int here = node_here(first);
    std::vector<MoveRequest> both = {{.tag = 1, .range = first.range(), .to = {931}, .from = {here}},
                                     {.tag = 2, .range = second.range(), .to = {930, here}, .from = {here}}};
    auto results = migrate_pages(both, {});
    BOOST_TEST((results.at(0).outcome == MoveOutcome::refused));
    BOOST_TEST((results.at(1).outcome == MoveOutcome::moved));
}

BOOST_AUTO_TEST_CASE(memory_that_is_gone_is_refused) {
    void* gone = ::mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ::munmap(gone, 4096);
    auto result = carry_one({.range = {static_cast<char*>(gone), 4096, 4096}, .to = {0}});
    BOOST_TEST((result.outcome == MoveOutcome::refused));
    BOOST_TEST(result.error != 0);
}

BOOST_AUTO_TEST_CASE(every_move_is_told_once_the_urgent_first) {
    Told told;
    {
        Migrator migrator(told.taker(), 0);
        // Holds the thread until all the others wait: it is a batch by itself.
        migrator.move(
            {.tag = 1, .range = {nullptr, kGiB, 4096}, .modelled_ns = 50 * kNsPerMs, .priority = 9});
        for (uint64_t tag = 2; tag <= 21; tag++)
            migrator.move({.tag = tag, .priority = static_cast<uint32_t>(tag % 3)});
        told.wait_for(21);
    }
    BOOST_REQUIRE(told.results.size() == 21u);
    BOOST_TEST(told.results.front().tag == 1u);
    for (size_t i = 2; i < 21; i++) BOOST_TEST(told.results[i - 1].tag % 3 >= told.results[i].tag % 3);
}

BOOST_AUTO_TEST_CASE(cancelled_moves_end_without_having_moved) {
    Told told;
    Migrator migrator(told.taker(), 0);
    migrator.move({.tag = 1, .modelled_ns = 30 * kNsPerSecond});
    migrator.move({.tag = 2, .modelled_ns = 30 * kNsPerSecond});
    migrator.cancel(2);
    migrator.cancel(1);
    migrator.cancel(77);
    for (const MoveResult& result : told.wait_for(2)) BOOST_TEST((result.outcome == MoveOutcome::cancelled));
}

BOOST_AUTO_TEST_CASE(moves_that_wait_when_it_ends_are_told_as_cancelled) {
    Told told;
    {
        Migrator migrator(told.taker(), 1);  // a byte a second: nothing but the first begins
        Pages pages(4096);
        for (uint64_t tag = 1; tag <= 9; tag++)
            migrator.move({.tag = tag, .range = {nullptr, 2 * kMiB, 4096}});
        told.wait_for(1);
    }
    BOOST_TEST(told.results.size() == 9u);
    BOOST_TEST((told.results.back().outcome == MoveOutcome::cancelled));
}

BOOST_AUTO_TEST_CASE(a_limit_lets_through_what_it_says_whatever_the_moves_sizes) {
    RateLimit limit(100 * kMiB);
    uint64_t now = kNsPerSecond, begun = now, bytes = 0;
    for (int i = 0; i < 200; i++) {
        now = limit.ready_ns(now);
        limit.spend(2 * kMiB, now);
        bytes += 2 * kMiB;
    }
    BOOST_TEST(now - begun == (bytes - 2 * kMiB) * kNsPerSecond / (100 * kMiB));
    RateLimit none(0);
    none.spend(kGiB, 5);
    BOOST_TEST(none.ready_ns(5) == 5u);
    // Idle time is not saved up.
    RateLimit idle(kMiB);
    idle.spend(kMiB, 0);
    BOOST_TEST(idle.ready_ns(100 * kNsPerSecond) == 100 * kNsPerSecond);
    idle.spend(kMiB, 100 * kNsPerSecond);
    BOOST_TEST(idle.ready_ns(100 * kNsPerSecond) == 101 * kNsPerSecond);
}

namespace {

// A mover and its readers, on a clock of their own: in each round of 20 ms a batch moves for 10, and readers wait in both
// halves, `slowdown` times as long in the first.
struct Rounds {
    MigrationThrottle throttle;
    uint64_t now_ns = kNsPerSecond;
    std::minstd_rand random{7};

    void pass(int rounds, double slowdown, WaitKind kind = WaitKind::minor, int waits = 8) {
        std::exponential_distribution<double> scatter(1.0 / 20'000);
        for (int round = 0; round < rounds; round++) {
            for (bool moving : {true, false}) {
                if (moving) throttle.begin_batch();
                for (int i = 0; i < waits; i++) {
                    uint64_t begun_ns = now_ns;
                    now_ns += static_cast<uint64_t>((50'000 + scatter(random)) * (moving ? slowdown : 1));
                    throttle.reader_waited(kind, begun_ns, now_ns);
                    now_ns += kNsPerMs;
                }
                if (moving) throttle.end_batch(now_ns);
                now_ns += kNsPerMs;
            }
            throttle.update(now_ns);
        }
    }
};

}  // namespace

BOOST_AUTO_TEST_CASE(moves_take_a_twenty_fifth_of_the_time) {
    MigrationThrottle throttle(256 * kMiB);
    BOOST_TEST(throttle.pause_ns(8 * kMiB, kNsPerMs) ==
               24 * kNsPerMs);  // less than the limit itself asks for
    BOOST_TEST(throttle.pause_ns(8 * kMiB, 80 * kNsPerMs) == 1920 * kNsPerMs);
    BOOST_TEST(throttle.pause_ns(8 * kMiB, kNsPerSecond) ==
               8 * kNsPerSecond);  // but never slower than 1 MiB/s
    BOOST_TEST(MigrationThrottle(0).pause_ns(8 * kMiB, kNsPerSecond) == 0u);
    RateLimit limit(256 * kMiB);
    limit.spend(8 * kMiB, 0);
    limit.rest(1920 * kNsPerMs, 80 * kNsPerMs);
    BOOST_TEST(limit.ready_ns(0) == 2000 * kNsPerMs);
}

BOOST_AUTO_TEST_CASE(a_batch_moves_what_the_pace_allows_in_a_part_of_a_second) {
    BOOST_TEST(MigrationThrottle(0).batch_bytes() == 8 * kMiB);
    BOOST_TEST(MigrationThrottle(kGiB).batch_bytes() == 8 * kMiB);
    BOOST_TEST(MigrationThrottle(64 * kMiB).batch_bytes() == 2 * kMiB);
    BOOST_TEST(MigrationThrottle(kMiB).batch_bytes() == 32 * kKiB);
}

BOOST_AUTO_TEST_CASE(moves_go_at_the_limit_while_readers_wait_no_longer_for_them) {
    Rounds rounds{MigrationThrottle(256 * kMiB)};
    for (int i = 0; i < 100; i++) {
        rounds.pass(20, 1.0);
        BOOST_TEST(rounds.throttle.bytes_per_s() >= 128 * kMiB);  // chance may deceive it, not for long
    }
    rounds.pass(400, 1.02);
    BOOST_TEST(rounds.throttle.bytes_per_s() == 256 * kMiB);
    BOOST_TEST(rounds.throttle.slowdown() < 1.1);
}

BOOST_AUTO_TEST_CASE(moves_slow_down_by_halves_while_readers_wait_longer_and_recover_by_steps) {
    Rounds rounds{MigrationThrottle(256 * kMiB)};
    rounds.pass(20, 1.0);
    std::vector<uint64_t> seen = {rounds.throttle.bytes_per_s()};
    while (seen.size() < 100) {
        rounds.pass(1, 2.0);
        if (rounds.throttle.bytes_per_s() != seen.back()) seen.push_back(rounds.throttle.bytes_per_s());
        if (seen.back() == 256 * kMiB / MigrationThrottle::kSlowest) break;
    }
    BOOST_TEST(seen == (std::vector<uint64_t>{256 * kMiB, 128 * kMiB, 64 * kMiB, 32 * kMiB, 16 * kMiB}),
               boost::test_tools::per_element());
    BOOST_TEST(rounds.throttle.slowdown() > 1.5);
    // Never less, however slow the readers are: a drain is to end.
    rounds.pass(200, 3.0);
    BOOST_TEST(rounds.throttle.bytes_per_s() == 16 * kMiB);
    uint64_t before = rounds.throttle.bytes_per_s();
    for (int i = 0; i < 400 && before < 256 * kMiB; i++) {
        rounds.pass(1, 1.0);
        BOOST_TEST(rounds.throttle.bytes_per_s() <= before + 8 * kMiB * 3);
        before = rounds.throttle.bytes_per_s();
    }
    BOOST_TEST(before == 256 * kMiB);
}

BOOST_AUTO_TEST_CASE(waits_are_compared_with_waits_of_their_kind) {
    Rounds rounds{MigrationThrottle(256 * kMiB)};
    rounds.pass(40, 1.0, WaitKind::minor);
    // A hundred times as long as the others, but as long without moves as with them.
    for (int i = 0; i < 2000; i++) {
        if (i % 2 == 0) rounds.throttle.begin_batch();
        uint64_t begun_ns = rounds.now_ns;
        rounds.now_ns += 5 * kNsPerMs;
        rounds.throttle.reader_waited(WaitKind::missing, begun_ns, rounds.now_ns++);
        if (i % 2 == 0) rounds.throttle.end_batch(rounds.now_ns++);
        rounds.now_ns += kNsPerMs;
        rounds.throttle.update(rounds.now_ns);
    }
    BOOST_TEST(rounds.throttle.bytes_per_s() == 256 * kMiB);
}

BOOST_AUTO_TEST_CASE(only_enough_waits_with_something_to_compare_them_with_say_anything) {
    MigrationThrottle throttle(256 * kMiB);
    uint64_t now_ns = kNsPerSecond;
    auto wait = [&](WaitKind kind, uint64_t long_ns) {
        throttle.reader_waited(kind, now_ns, now_ns + long_ns);
        now_ns += long_ns + kNsPerMs;
    };
    for (int i = 0; i < 200; i++) wait(WaitKind::minor, 50'000);
    throttle.update(now_ns);
    throttle.begin_batch();
    // A kind that was never seen without moves.
    for (int i = 0; i < 200; i++) wait(WaitKind::hinted, kNsPerMs);
    for (uint32_t i = 1; i < MigrationThrottle::kEnough; i++) wait(WaitKind::minor, kNsPerMs);
    throttle.update(now_ns += kNsPerSecond);
    BOOST_TEST(throttle.bytes_per_s() == 256 * kMiB);
    BOOST_TEST(throttle.slowdown() == 0.0);
    wait(WaitKind::minor, kNsPerMs);
    throttle.update(now_ns += kNsPerSecond);
    BOOST_TEST(throttle.bytes_per_s() == 128 * kMiB);
    BOOST_TEST(throttle.slowdown() > 10.0);
}

BOOST_AUTO_TEST_CASE(without_a_limit_there_is_no_pace_and_a_new_limit_holds_at_once) {
    Rounds free{MigrationThrottle(0)};
    free.pass(100, 4.0);
    BOOST_TEST(free.throttle.bytes_per_s() == 0u);
    free.throttle.set_limit(64 * kMiB);
    BOOST_TEST(free.throttle.bytes_per_s() == 64 * kMiB);
}

BOOST_AUTO_TEST_CASE(a_mover_judges_what_its_readers_wait_for) {
    Told told;
    Migrator migrator(told.taker(), 64 * kMiB);
    for (int i = 0; i < 64; i++) migrator.reader_waited(WaitKind::minor, monotonic_ns());
    migrator.move({.tag = 1, .range = {nullptr, kMiB, 4096}});
    told.wait_for(1);
    BOOST_TEST(migrator.throttle().bytes_per_s() == 64 * kMiB);
    migrator.set_limit(kMiB);
    BOOST_TEST(migrator.throttle().bytes_per_s() == kMiB);
}

BOOST_AUTO_TEST_CASE(a_preferred_node_holds_for_its_scope_and_a_missing_one_changes_nothing) {
    Pages pages(4096);
    int here = node_here(pages);
    {
        PreferNode prefer(here);
        PreferNode none(-1);
        Pages fresh(16 * 4096);
        BOOST_TEST(node_here(fresh) == here);
    }
    PreferNode missing(1023);
    Pages fresh(16 * 4096);
    BOOST_TEST(node_here(fresh) == here);
}
