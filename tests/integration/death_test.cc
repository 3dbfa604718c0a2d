// tierd dies or hangs at any moment: every reader goes on on the kernel's mapping within a second and reads
// the right bytes.
#define BOOST_TEST_MODULE death
#include <csignal>
#include <cstdlib>
#include <iostream>
#include <list>
#include <random>

#include <boost/test/unit_test.hpp>

#include "lib/base/bytes.h"
#include "lib/base/clock.h"
#include "tests/integration/harness.h"

using namespace tierd;
using namespace tierd::itest;

namespace {

constexpr uint64_t kFileBytes = 64 * kMiB + 777;
constexpr unsigned kReaders = 8;
constexpr double kMostStallMs = 1000;

struct Scene {
    Scene() { make_file(path, 5, kFileBytes); }
    ~Scene() { std::cout << "worst stall " << worst_ms << " ms" << std::endl; }

    void judge(const Json& told) {
        BOOST_TEST(all_right(told), told.dump());
        judge_stall(told);
    }
    void judge_stall(const Json& told) {
        const double stall_ms = told["stall_ms"];
        worst_ms = std::max(worst_ms, stall_ms);
        BOOST_TEST(stall_ms < kMostStallMs);
    }
    std::list<ReaderProcess> start_readers(const Daemon& daemon) const {
        std::list<ReaderProcess> readers;
        for (unsigned i = 0; i < kReaders; ++i)
            readers.emplace_back(dir, ReaderPlan{.socket = daemon.socket()});
        return readers;
    }
    // Readers that read for ever, each with threads of its own, in so little memory that tierd is always at
    // work.
    std::list<ReaderProcess> start_busy_readers(const Daemon& daemon, unsigned count) const {
        std::list<ReaderProcess> readers;
        for (unsigned i = 0; i < count; ++i) {
            ReaderProcess& reader = readers.emplace_back(dir, ReaderPlan{.socket = daemon.socket()});
            reader.call("map path=" + path);
            BOOST_TEST(is_all(reader.call("backing"), "arena"));
            reader.call("verify seed=5 until=stop threads=2 order=random block=65536");
        }
        return readers;
    }
    // Waits until all of them stand on the kernel's mapping: each time they are looked at, not after some
    // time.
    void await_fall_back(std::list<ReaderProcess>& readers) const {
        for (ReaderProcess& reader : readers)
            BOOST_TEST(comes_true([&] { return !holds_userfaultfd(reader.pid()); }));
    }
    void stop_readers(std::list<ReaderProcess>& readers) {
        for (ReaderProcess& reader : readers) judge(reader.call("stop"));
    }

    WorkDir dir;
    std::string path = dir.file("model.weights");
    double worst_ms = 0;
};

const DaemonPlan kLittleMemory{.budget = "16MiB"};

// Readers of one round of the kill test: from the start of the process to the last byte.
struct Round {
    Round(Scene& s, const Daemon& daemon) : scene(s), readers(s.start_readers(daemon)) {
        for (ReaderProcess& reader : readers) {
            reader.send("map path=" + s.path);
            reader.send("backing");
            reader.send("verify seed=5 order=stride block=65536");
            reader.send("backing");
        }
    }
    // Returns how many readers were served by tierd first and fell back later.
    unsigned judge() {
        unsigned fell_back = 0;
        for (ReaderProcess& reader : readers) {
            scene.judge_stall(reader.receive());
            const bool served = is_all(reader.receive(), "arena");
            scene.judge(reader.receive());
            fell_back += served && !is_all(reader.receive(), "arena");
        }
        return fell_back;
    }
    Scene& scene;
    std::list<ReaderProcess> readers;
};

unsigned rounds_wanted() {
    const char* told = std::getenv("TIERD_KILL_ROUNDS");
    return told ? unsigned(std::atoi(told)) : 200;
}

}  // namespace

BOOST_FIXTURE_TEST_CASE(a_kill_at_any_moment_leaves_eight_readers_with_the_right_bytes, Scene) {
    drop_cache(path);
    uint64_t round_ns;
    {
        Daemon daemon(dir);
        const uint64_t begin_ns = monotonic_ns();
        Round whole(*this, daemon);
        BOOST_TEST(whole.judge() == 0u);
        round_ns = monotonic_ns() - begin_ns;
    }
    std::mt19937_64 dice(1);
    unsigned fell_back = 0;
    for (unsigned round = 0; round < rounds_wanted(); ++round) {
        drop_cache(path);
        Daemon daemon(dir, round % 2 ? kLittleMemory : DaemonPlan{});
        const uint64_t kill_ns = monotonic_ns() + dice() % round_ns;
        Round running(*this, daemon);
        const uint64_t now_ns = monotonic_ns();
        if (kill_ns > now_ns) std::this_thread::sleep_for(std::chrono::nanoseconds(kill_ns - now_ns));
        daemon.send(SIGKILL);
        daemon.wait();
        fell_back += running.judge();
    }
    std::cout << fell_back << " readers fell back while they read" << std::endl;
    BOOST_TEST(fell_back > 0u);
}

BOOST_FIXTURE_TEST_CASE(a_kill_while_memory_is_taken_away_all_the_time_stalls_nobody, Scene) {
    for (unsigned round = 0; round < 5; ++round) {
        Daemon daemon(dir, kLittleMemory);
        auto readers = start_busy_readers(daemon, 4);
        daemon.send(SIGKILL);
        daemon.wait();
        await_fall_back(readers);
        stop_readers(readers);
    }
}

BOOST_FIXTURE_TEST_CASE(a_hung_tierd_is_left_and_its_return_does_no_harm, Scene) {
    Daemon daemon(dir, kLittleMemory);
    auto readers = start_busy_readers(daemon, 4);
    daemon.send(SIGSTOP);
    await_fall_back(readers);
    daemon.send(SIGCONT);
    BOOST_TEST(comes_true([&] { return daemon.status()["sessions"] == 0u; }));
    stop_readers(readers);
    ReaderProcess later(dir, {.socket = daemon.socket()});
    later.call("map path=" + path);
    BOOST_TEST(is_all(later.call("backing"), "arena"));
    judge(later.call("verify seed=5"));
}

BOOST_FIXTURE_TEST_CASE(a_new_reader_does_not_wait_for_a_hung_tierd, Scene) {
    Daemon daemon(dir);
    daemon.send(SIGSTOP);
    ReaderProcess reader(dir, {.socket = daemon.socket()});
    judge_stall(reader.call("map path=" + path));
    judge(reader.call("verify seed=5"));
    BOOST_TEST(is_all(reader.call("backing"), "file"));
    daemon.send(SIGCONT);
}

BOOST_FIXTURE_TEST_CASE(an_orderly_end_hands_every_reader_back, Scene) {
    Daemon daemon(dir, kLittleMemory);
    auto readers = start_busy_readers(daemon, 4);
    BOOST_TEST(daemon.stop() == 0);
    await_fall_back(readers);
    stop_readers(readers);
    for (ReaderProcess& reader : readers) BOOST_TEST(is_all(reader.call("backing"), "file"));
}

BOOST_FIXTURE_TEST_CASE(a_mapping_untouched_until_tierd_is_dead_reads_right, Scene) {
    Daemon daemon(dir);
    ReaderProcess reader(dir, {.socket = daemon.socket()});
    reader.call("map path=" + path);
    daemon.send(SIGKILL);
    daemon.wait();
    judge(reader.call("verify seed=5 order=random threads=4"));
}

BOOST_FIXTURE_TEST_CASE(a_killed_reader_leaves_nothing_behind_in_tierd, Scene) {
    Daemon daemon(dir, kLittleMemory);
    {
        auto readers =
            start_busy_readers(daemon, 4);  // killed as the list goes, in the middle of their faults
    }
    BOOST_TEST(comes_true([&] { return daemon.status()["sessions"] == 0u; }));
    ReaderProcess reader(dir, {.socket = daemon.socket()});
    reader.call("map path=" + path);
    judge(reader.call("verify seed=5 threads=4"));
    BOOST_TEST(is_all(reader.call("backing"), "arena"));
}
