// What a client writes into its own private mapping is its alone: it survives eviction, fallback and the
// death of tierd, and nobody else ever sees it.
#define BOOST_TEST_MODULE writes
#include <unistd.h>

#include <csignal>

#include <boost/test/unit_test.hpp>

#include "lib/base/bytes.h"
#include "tests/integration/harness.h"

using namespace tierd;
using namespace tierd::itest;

namespace {

constexpr uint64_t kFileBytes = 64 * kMiB;

struct Scene {
    Scene() { make_file(path, 3, kFileBytes); }

    // A writer that has the file mapped PROT_READ | PROT_WRITE, MAP_PRIVATE, on tierd's memory.
    std::unique_ptr<ReaderProcess> start_writer(const Daemon& daemon, uid_t user = 0) const {
        auto writer =
            std::make_unique<ReaderProcess>(dir, ReaderPlan{.socket = daemon.socket(), .user = user});
        writer->call("map prot=rw path=" + path);
        BOOST_TEST(is_all(writer->call("backing"), "arena"));
        return writer;
    }
    // A second process that reads the whole file through tierd, which drives the writer's clean pages out.
    void read_by_another(const Daemon& daemon) const {
        ReaderProcess other(dir, {.socket = daemon.socket()});
        other.call("map path=" + path);
        const Json told = other.call("verify seed=3 passes=2 threads=2");
        BOOST_TEST(all_right(told), told.dump());
    }
    // Stops the writing and judges every page.
    static void judge(ReaderProcess& writer) {
        const Json stopped = writer.call("stop");
        BOOST_TEST(stopped["wrong"] == 0u, stopped.dump());
        BOOST_TEST(stopped["bytes"].get<uint64_t>() > 0u);
        judge_writes(writer);
    }
    static void judge_writes(ReaderProcess& writer) {
        const Json told = writer.call("verify-writes seed=3");
        BOOST_TEST(told["wrong"] == 0u, told.dump());
        BOOST_TEST(told["written_pages"].get<uint64_t>() > 0u);
    }
    // After what `trouble` does to tierd in the middle of the writing, not one write is lost. `stride`: one
    // page of so many is written by each thread.
    template <class Trouble>
    void write_through(unsigned stride, Trouble trouble) const {
        Daemon daemon(dir, {.budget = "16MiB"});
        auto writer = start_writer(daemon);
        ReaderProcess other(dir, {.socket = daemon.socket()});  // keeps tierd evicting
        other.call("map path=" + path);
        other.call("verify seed=3 until=stop order=random block=65536");
        BOOST_TEST(writer->call("write seed=3 threads=2 steps=50")["wrong"] == 0u);
        writer->call("write seed=3 threads=8 until=stop stride=" + std::to_string(stride));
        trouble(daemon);
        BOOST_TEST(comes_true([&] { return !holds_userfaultfd(writer->pid()); }));
        judge(*writer);
        BOOST_TEST(all_right(other.call("stop")));
        // Clean pages in runs are the file's mapping again; where written ones lie too close together they
        // were copied.
        if (stride > 100) BOOST_TEST(maps_file(writer->pid(), path));
    }

    // A writer without privileges, most of whose pages were never touched, loses nothing by `trouble` either: neither what
    // it wrote nor the file's bytes around it.
    template <class Trouble>
    void write_unprivileged(Trouble trouble) const {
        if (geteuid() != 0) skip_program("acting as another user needs root");
        Daemon daemon(dir, {.budget = "16MiB", .config = "[session]\ngroup = \"nogroup\"\n"});
        auto writer = start_writer(daemon, kNobody);
        BOOST_TEST(writer->call("write seed=3 threads=2 steps=20 stride=700")["wrong"] == 0u);
        trouble(daemon);
        BOOST_TEST(comes_true([&] { return maps_file(writer->pid(), path); }));
        judge_writes(*writer);
        BOOST_TEST(maps_file(writer->pid(), path));
    }

    WorkDir dir;
    std::string path = dir.file("model.weights");
};

}  // namespace

BOOST_FIXTURE_TEST_CASE(own_writes_survive_eviction_and_nobody_else_sees_them, Scene) {
    Daemon daemon(dir, {.budget = "16MiB"});
    auto writer = start_writer(daemon);
    writer->call("write seed=3 threads=4 until=stop");
    read_by_another(daemon);
    judge(*writer);
    BOOST_TEST(daemon.counter("evictions") > 0u);
    BOOST_TEST(wrong_bytes_in_file(path, 3, 0) == 0u);
    BOOST_TEST(daemon.running());
}

BOOST_FIXTURE_TEST_CASE(own_writes_survive_where_huge_pages_are_asked_for, Scene) {
    for (const char* pages : {"hugetlb", "off"}) {
        Daemon daemon(dir, {.budget = "16MiB", .options = {"--huge-pages", pages}});
        auto writer = start_writer(daemon);
        writer->call("write seed=3 threads=4 until=stop");
        read_by_another(daemon);
        judge(*writer);
    }
}

BOOST_FIXTURE_TEST_CASE(a_mapping_that_may_be_written_keeps_small_entries, Scene) {
    Daemon daemon(dir, {.budget = "256MiB", .options = {"--huge-pages", "thp"}});
    if (daemon.get("/v1/status")["notes"].dump().find("no private tmpfs") != std::string::npos) {
        BOOST_TEST_MESSAGE("skipped: no arena with transparent huge pages on this machine");
        return;
    }
    auto writer = start_writer(daemon);
    BOOST_TEST(all_right(writer->call("verify seed=3")));
    // A second process, whose wishes come later and are carried out in turn: then the writer's are done with.
    ReaderProcess other(dir, {.socket = daemon.socket()});
    other.call("map path=" + path);
    BOOST_TEST(all_right(other.call("verify seed=3")));
    BOOST_TEST(comes_true([&] { return huge_mapped_bytes(other.pid()) == kFileBytes; }));
    BOOST_TEST(huge_mapped_bytes(writer->pid()) == 0u);
    BOOST_TEST(writer->call("write seed=3 threads=4 steps=1000")["wrong"] == 0u);
    judge_writes(*writer);
    BOOST_TEST(all_right(other.call("verify seed=3")));
}

BOOST_FIXTURE_TEST_CASE(own_writes_survive_the_orderly_end_of_tierd, Scene) {
    for (unsigned stride : {8, 32, 64, 256, 8, 32, 64, 256})
        write_through(stride, [](Daemon& daemon) { BOOST_TEST(daemon.stop() == 0); });
}

BOOST_FIXTURE_TEST_CASE(own_writes_survive_the_death_of_tierd, Scene) {
    for (unsigned stride : {8, 32, 64, 256, 8, 32, 64, 256})
        write_through(stride, [](Daemon& daemon) {
            daemon.send(SIGKILL);
            daemon.wait();
        });
}

BOOST_FIXTURE_TEST_CASE(own_writes_survive_a_hung_tierd, Scene) {
    for (unsigned stride : {8, 256}) write_through(stride, [](Daemon& daemon) { daemon.send(SIGSTOP); });
}

BOOST_FIXTURE_TEST_CASE(an_unprivileged_writer_reads_the_file_where_it_touched_nothing_before_tierd_died,
                        Scene) {
    write_unprivileged([](Daemon& daemon) { daemon.send(SIGKILL); });
}

BOOST_FIXTURE_TEST_CASE(an_unprivileged_writer_reads_the_file_where_it_touched_nothing_before_tierd_hung,
                        Scene) {
    write_unprivileged([](Daemon& daemon) { daemon.send(SIGSTOP); });
}

BOOST_FIXTURE_TEST_CASE(an_unprivileged_writer_reads_the_file_where_it_touched_nothing_before_tierd_ended,
                        Scene) {
    write_unprivileged([](Daemon& daemon) { BOOST_TEST(daemon.stop() == 0); });
}

BOOST_FIXTURE_TEST_CASE(a_file_that_changes_takes_no_written_page_away, Scene) {
    for (unsigned round = 0; round < 4; ++round) {
        Daemon daemon(dir, {.budget = "16MiB"});
        auto writer = start_writer(daemon);
        writer->call("write seed=3 threads=8 stride=256 until=stop");
        rewrite(path, 3, 0,
                4096);  // the same bytes at another time: for tierd another file, for the writer none
        BOOST_TEST(comes_true([&] { return maps_file(writer->pid(), path); }));
        judge(*writer);
    }
}

BOOST_FIXTURE_TEST_CASE(the_kernel_may_write_into_a_private_mapping, Scene) {
    make_file(dir.file("other.bin"), 9, kFileBytes);
    Daemon daemon(dir, {.budget = "16MiB"});
    auto writer = start_writer(daemon);
    const std::string part = " from=5246976 length=3145728";  // neither end is an extent's
    BOOST_TEST(writer->call("read-in file_from=5246976 path=" + dir.file("other.bin") + part)["read"] ==
               3145728);
    read_by_another(daemon);
    BOOST_TEST(all_right(writer->call("verify seed=9" + part)));
    BOOST_TEST(all_right(writer->call("verify seed=3 length=5246976")));
    BOOST_TEST(all_right(writer->call("verify seed=3 from=8392704")));
}

BOOST_FIXTURE_TEST_CASE(a_mapping_made_writable_later_may_be_written, Scene) {
    Daemon daemon(dir, {.budget = "16MiB"});
    ReaderProcess writer(dir, {.socket = daemon.socket()});
    writer.call("map path=" + path);
    BOOST_TEST(all_right(writer.call("verify seed=3 length=20971520")));
    BOOST_TEST(writer.call("mprotect prot=rw")["result"] == 0);
    BOOST_TEST(writer.call("write seed=3 threads=4 steps=2000")["wrong"] == 0u);
    read_by_another(daemon);
    judge_writes(writer);
}

BOOST_FIXTURE_TEST_CASE(a_child_inherits_what_its_parent_wrote, Scene) {
    Daemon daemon(dir, {.budget = "16MiB"});
    auto writer = start_writer(daemon);
    BOOST_TEST(writer->call("write seed=3 threads=4 steps=1000")["wrong"] == 0u);
    const Json told = writer->call("fork-verify-writes seed=3");
    BOOST_TEST(told["child_status"] == 0);
    BOOST_TEST(told["wrong"] == 0u);
    BOOST_TEST(writer->call("write seed=3 threads=4 steps=1000")["wrong"] == 0u);
    judge_writes(*writer);
}

BOOST_FIXTURE_TEST_CASE(advice_to_drop_gives_the_files_bytes_back, Scene) {
    Daemon daemon(dir, {.budget = "16MiB"});
    auto writer = start_writer(daemon);
    BOOST_TEST(writer->call("write seed=3 threads=4 steps=2000")["wrong"] == 0u);
    BOOST_TEST(writer->call("madvise advice=dontneed")["result"] == 0);
    const Json told = writer->call("verify seed=3");
    BOOST_TEST(all_right(told), told.dump());
}
