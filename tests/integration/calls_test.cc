// The calls on mappings that engines make: each has the result and the effect that it has on the kernel's own
// mapping, whatever part of a served mapping it names; and processes are made of a client in every way there
// is.
#define BOOST_TEST_MODULE calls
#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <random>

#include <boost/test/unit_test.hpp>

#include "lib/base/bytes.h"
#include "tests/integration/harness.h"

using namespace tierd;
using namespace tierd::itest;

namespace {

constexpr uint64_t kFileBytes = 40 * kMiB + 4096 * 3 + 17;
constexpr uint64_t kWholeBytes = 40 * kMiB + 4096 * 4;  // to the end of the last page

std::string part(uint64_t from, uint64_t length) {
    return " from=" + std::to_string(from) + " length=" + std::to_string(length);
}

struct Scene {
    Scene() { make_file(path, 2, kFileBytes); }

    ReaderProcess start_reader() const { return ReaderProcess(dir, {.socket = daemon.socket()}); }
    // A reader with the file mapped on tierd's memory.
    ReaderProcess mapped_reader(const std::string& how = "") const {
        ReaderProcess reader = start_reader();
        const Json told = reader.call("map path=" + path + " " + how);
        BOOST_TEST(told["map"] == 0u);
        BOOST_TEST(is_all(reader.call("backing"), "arena"));
        return reader;
    }
    static void reads_right(ReaderProcess& reader, const std::string& what = "") {
        const Json told = reader.call("verify seed=2 " + what);
        BOOST_TEST(all_right(told), what + ": " + told.dump());
    }
    static void works(ReaderProcess& reader, const std::string& line) {
        const Json told = reader.call(line);
        BOOST_TEST(told["result"] == 0, line + ": " + told.dump());
    }

    WorkDir dir;
    std::string path = dir.file("model.weights");
    Daemon daemon{dir, {.budget = "16MiB"}};
};

}  // namespace

BOOST_FIXTURE_TEST_CASE(parts_unmapped_are_gone_and_the_rest_reads_on, Scene) {
    ReaderProcess reader = mapped_reader("flags=shared populate");
    reads_right(reader, part(0, 5 * kMiB));
    works(reader, "munmap" + part(0, 5 * 4096));  // as llama.cpp drops the header
    works(reader, "munmap" + part(7 * kMiB + 4096, 6 * kMiB));
    works(reader, "munmap" + part(kWholeBytes - 3 * kMiB, 3 * kMiB));
    const Json runs = reader.call("backing")["runs"];
    BOOST_REQUIRE(runs.size() == 5u);
    for (unsigned gone : {0u, 2u, 4u}) BOOST_TEST(runs[gone]["what"] == "nothing");
    BOOST_TEST(runs[2]["from"] == 7 * kMiB + 4096);
    BOOST_TEST(runs[2]["length"] == 6 * kMiB);
    reads_right(reader, part(5 * 4096, 7 * kMiB + 4096 - 5 * 4096));
    reads_right(reader, part(13 * kMiB + 4096, kWholeBytes - 16 * kMiB - 4096) + " order=random threads=4");
}

BOOST_FIXTURE_TEST_CASE(unmapping_all_ends_what_tierd_knows_of_it, Scene) {
    ReaderProcess reader = mapped_reader();
    BOOST_TEST(daemon.get("/v1/sessions")["sessions"][0]["mapped_bytes"].get<uint64_t>() >= kFileBytes);
    works(reader, "munmap");
    BOOST_TEST(comes_true([&] {
        const Json sessions = daemon.get("/v1/sessions")["sessions"];
        return sessions.empty() || sessions[0]["mapped_bytes"] == 0u;
    }));
    works(reader, "map path=" + path);
    reads_right(reader, "map=1");
}

BOOST_FIXTURE_TEST_CASE(a_mapping_may_shrink_grow_and_move, Scene) {
    ReaderProcess reader = mapped_reader();
    reads_right(reader, part(0, 3 * kMiB));
    works(reader, "mremap" + part(0, kWholeBytes) + " to_length=" + std::to_string(20 * kMiB + 8192));
    reads_right(reader, "map=1 order=random threads=2");
    works(reader, "mremap map=1 to_length=" + std::to_string(kWholeBytes));
    reads_right(reader, "map=2 threads=2");
    works(reader, "mremap map=2 fixed" + part(0, kWholeBytes));
    reads_right(reader, "map=3 order=stride block=65536 threads=2");
    works(reader, "mremap map=3 fixed" + part(9 * kMiB + 4096, 4 * kMiB));
    reads_right(reader, "map=4");
    reads_right(reader, "map=3" + part(0, 9 * kMiB + 4096));
}

BOOST_FIXTURE_TEST_CASE(protection_comes_and_goes, Scene) {
    ReaderProcess reader = mapped_reader();
    works(reader, "mprotect prot=none" + part(3 * kMiB + 4096, 7 * kMiB));
    reads_right(reader, part(0, 3 * kMiB + 4096));
    reads_right(reader, part(10 * kMiB + 4096, 20 * kMiB));
    works(reader, "mprotect prot=r");
    reads_right(reader);
    // Writing must be refused where the file was opened for reading and the mapping is shared.
    works(reader, "map flags=shared path=" + path);
    BOOST_TEST(reader.call("mprotect map=1 prot=rw")["result"] == EACCES);
    reads_right(reader, "map=1");
}

BOOST_FIXTURE_TEST_CASE(every_advice_leaves_the_bytes_right, Scene) {
    ReaderProcess reader = mapped_reader();
    for (const char* advice : {"sequential", "random", "willneed", "normal", "hugepage", "dontneed", "cold",
                               "pageout", "populate", "dontfork", "dofork"}) {
        works(reader, "madvise advice=" + std::string(advice));
        works(reader, "madvise advice=" + std::string(advice) + part(5 * kMiB + 4096, 4 * kMiB));
        reads_right(reader, part(4 * kMiB, 8 * kMiB) + " threads=2");
    }
    reads_right(reader);
}

BOOST_FIXTURE_TEST_CASE(locking_more_than_the_budget_works_and_keeps_the_budget, Scene) {
    ArenaSampler sampler(daemon.pid());
    ReaderProcess reader = mapped_reader();
    works(reader, "mlock" + part(2 * kMiB + 4096, 5 * kMiB));
    works(reader, "mlock");
    reads_right(reader, "threads=2");
    works(reader, "msync");
    works(reader, "mlock undo");
    reads_right(reader);
    sampler.stop();
    BOOST_TEST(sampler.peak_bytes() <= 16 * kMiB);
}

BOOST_FIXTURE_TEST_CASE(other_mappings_may_be_put_over_a_part, Scene) {
    ReaderProcess reader = mapped_reader();
    reads_right(reader, part(0, 10 * kMiB));
    BOOST_TEST(reader.call("map-zeros-over" + part(6 * kMiB + 4096, 3 * kMiB))["wrong"] == 0u);
    reads_right(reader, part(0, 6 * kMiB + 4096));
    reads_right(reader, part(9 * kMiB + 4096, kWholeBytes - 9 * kMiB - 4096) + " threads=2");
    // The file itself over the zeros, at another offset of it.
    works(reader, "map over=0 at=6295552 offset=20971520 length=2097152 path=" + path);
    reads_right(reader, "map=1 order=random");
    reads_right(reader, part(0, 6 * kMiB + 4096));
}

BOOST_FIXTURE_TEST_CASE(a_mapping_for_each_tensor_reads_right, Scene) {
    ReaderProcess reader = start_reader();
    std::mt19937_64 dice(1);
    const uint64_t pages = kFileBytes / 4096;
    constexpr unsigned kTensors = 200;
    for (unsigned i = 0; i < kTensors; ++i) {
        const uint64_t first = dice() % pages;
        const uint64_t count = std::min<uint64_t>(1 + dice() % (i % 4 ? 40 : 1200), pages - first);
        works(reader, "map prot=" + std::string(i % 2 ? "rw" : "r") +
                          " offset=" + std::to_string(first * 4096) +
                          " length=" + std::to_string(count * 4096 - i % 3 * 100) + " path=" + path);
    }
    for (unsigned i = 0; i < kTensors; i += 2) works(reader, "munmap map=" + std::to_string(i));
    for (unsigned i = 1; i < kTensors; i += 2) reads_right(reader, "map=" + std::to_string(i));
    BOOST_TEST(daemon.counter("faults_missing") > 0u);
}

BOOST_FIXTURE_TEST_CASE(one_file_mapped_several_times_reads_right_in_each, Scene) {
    ReaderProcess reader = mapped_reader();
    works(reader, "map flags=shared path=" + path);
    works(reader, "map prot=rw path=" + path);
    works(reader, "map populate path=" + path);
    BOOST_TEST(reader.call("write map=2 seed=2 threads=2 steps=500")["wrong"] == 0u);
    for (const char* map : {"map=0", "map=1", "map=3"}) reads_right(reader, map);
    works(reader, "munmap map=1");
    reads_right(reader, "map=0 order=random block=65536");
    BOOST_TEST(reader.call("verify-writes map=2 seed=2")["wrong"] == 0u);
}

BOOST_FIXTURE_TEST_CASE(a_library_that_arrives_later_is_served_too, Scene) {
    ReaderProcess reader = start_reader();
    works(reader, "map-by-plugin plugin=" + plugin_library() + " path=" + path);
    BOOST_TEST(is_all(reader.call("backing"), "arena"));
    reads_right(reader);
}

BOOST_FIXTURE_TEST_CASE(the_kernel_reads_untouched_weights_in_one_call, Scene) {
    ReaderProcess reader = mapped_reader();
    const Json told = reader.call("write-out to=" + dir.file("copy") + part(0, kFileBytes));
    BOOST_TEST(told["written"] == kFileBytes);
    BOOST_TEST(wrong_bytes_in_file(dir.file("copy"), 2, 0) == 0u);
    BOOST_TEST(is_all(reader.call("backing"), "arena"));
}

BOOST_FIXTURE_TEST_CASE(a_mapping_longer_than_the_file_is_sigbus_behind_its_end, Scene) {
    ReaderProcess reader = start_reader();
    works(reader, "map path=" + path + " length=" + std::to_string(kWholeBytes + 5 * kMiB));
    const Json told = reader.call("verify seed=2 threads=2");
    BOOST_TEST(told["wrong"] == 0u);
    BOOST_TEST(told["sigbus"] == 5 * kMiB / 4096);
    BOOST_TEST(told["first_sigbus"] == kWholeBytes);
}

BOOST_FIXTURE_TEST_CASE(a_file_of_another_name_is_the_kernels, Scene) {
    make_file(dir.file("model.bin"), 2, kMiB);
    ReaderProcess reader = start_reader();
    works(reader, "map path=" + dir.file("model.bin"));
    BOOST_TEST(is_all(reader.call("backing"), "file"));
    reads_right(reader);
}

BOOST_FIXTURE_TEST_CASE(empty_and_tiny_files_behave_as_ever, Scene) {
    make_file(dir.file("empty.weights"), 2, 0);
    make_file(dir.file("tiny.weights"), 2, 100);
    ReaderProcess reader = start_reader();
    BOOST_TEST(reader.call("map path=" + dir.file("empty.weights"))["result"] == EINVAL);
    works(reader, "map path=" + dir.file("tiny.weights"));
    reads_right(reader);
}

BOOST_FIXTURE_TEST_CASE(parent_and_child_read_on_after_a_fork, Scene) {
    ReaderProcess reader = mapped_reader();
    for (unsigned round = 0; round < 5; ++round) {
        const Json told = reader.call("fork-verify seed=2 threads=4 order=random block=65536");
        BOOST_TEST(told["child_status"] == 0);
        BOOST_TEST(all_right(told), told.dump());
    }
    BOOST_TEST(is_all(reader.call("backing"), "arena"));
}

BOOST_FIXTURE_TEST_CASE(a_child_made_behind_the_librarys_back_disturbs_nobody, Scene) {
    ReaderProcess reader = mapped_reader();
    reads_right(reader, part(0, 8 * kMiB));
    for (unsigned round = 0; round < 5; ++round) BOOST_TEST(reader.call("clone-exit")["child_status"] == 0);
    reads_right(reader, "order=random block=65536 threads=4");
    BOOST_TEST(is_all(reader.call("backing"), "arena"));
}

BOOST_FIXTURE_TEST_CASE(programs_started_by_a_client_are_served_themselves, Scene) {
    ReaderProcess reader = mapped_reader();
    reads_right(reader, part(0, 8 * kMiB));
    const uint64_t before = daemon.counter("sessions_opened");
    BOOST_TEST(reader.call("spawn-verify seed=2 path=" + path)["child_status"] == 0);
    BOOST_TEST(reader.call("vfork-verify seed=2 path=" + path)["child_status"] == 0);
    BOOST_TEST(daemon.counter("sessions_opened") == before + 2);
    reads_right(reader, "threads=4");
    BOOST_TEST(is_all(reader.call("backing"), "arena"));
}

BOOST_AUTO_TEST_CASE(without_a_tierd_all_is_as_ever) {
    WorkDir dir;
    const std::string path = dir.file("model.weights");
    make_file(path, 2, kFileBytes);
    // A socket that nobody accepts on, one that nobody listens on, and none at all.
    const std::string deaf = dir.file("deaf.sock");
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    deaf.copy(address.sun_path, sizeof(address.sun_path) - 1);
    const Fd bound(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    BOOST_REQUIRE(bind(bound.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0);
    for (const bool listening : {false, true}) {
        if (listening) BOOST_REQUIRE(listen(bound.get(), 8) == 0);
        for (const std::string& socket : {deaf, dir.file("absent.sock")}) {
            ReaderProcess reader(dir, {.socket = socket});
            const Json mapped = reader.call("map prot=rw path=" + path);
            BOOST_TEST(mapped["stall_ms"].get<double>() < 1000);
            BOOST_TEST(is_all(reader.call("backing"), "file"));
            BOOST_TEST(reader.call("write seed=2 threads=4 steps=500")["wrong"] == 0u);
            BOOST_TEST(reader.call("verify-writes seed=2")["wrong"] == 0u);
            BOOST_TEST(reader.call("fork-verify-writes seed=2")["child_status"] == 0);
            BOOST_TEST(reader.call("spawn-verify seed=2 path=" + path)["child_status"] == 0);
        }
    }
}
