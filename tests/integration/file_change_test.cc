// A weight file that is replaced, truncated, grown or rewritten while it is mapped: after a short time, which
// tierd needs to notice, readers see what the kernel's own mapping would show.
#define BOOST_TEST_MODULE file_change
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>

#include <boost/test/unit_test.hpp>

#include "lib/base/bytes.h"
#include "tests/integration/harness.h"

using namespace tierd;
using namespace tierd::itest;

namespace {

constexpr uint64_t kFileBytes = 24 * kMiB + 4096 + 100;

struct Scene {
    Scene() { make_file(path, 1, kFileBytes); }

    std::unique_ptr<ReaderProcess> start_reader(const std::string& how = "") {
        auto reader = std::make_unique<ReaderProcess>(dir, ReaderPlan{.socket = daemon.socket()});
        reader->call("map path=" + path + " " + how);
        return reader;
    }
    // The whole file read once: resident, and mapped in the reader.
    std::unique_ptr<ReaderProcess> start_warm_reader(const std::string& how = "") {
        auto reader = start_reader(how);
        BOOST_TEST(is_all(reader->call("backing"), "arena"));
        const Json told = reader->call("verify seed=1");
        BOOST_TEST(told["wrong"] == 0u, told.dump());
        return reader;
    }
    // Comes true: every byte is that of `line`'s seed.
    static bool becomes_right(ReaderProcess& reader, const std::string& line) {
        return comes_true([&] { return all_right(reader.call(line)); });
    }

    WorkDir dir;
    std::string path = dir.file("model.weights");
    Daemon daemon{dir, {.budget = "128MiB"}};
};

}  // namespace

BOOST_FIXTURE_TEST_CASE(a_replaced_file_goes_on_with_its_old_bytes, Scene) {
    auto warm = start_warm_reader();
    auto cold = start_reader();
    make_file(dir.file("new.weights"), 2, kFileBytes);
    BOOST_REQUIRE(std::rename(dir.file("new.weights").c_str(), path.c_str()) == 0);
    auto later = start_reader();
    BOOST_TEST(all_right(later->call("verify seed=2")));
    BOOST_TEST(is_all(later->call("backing"), "arena"));
    BOOST_TEST(all_right(warm->call("verify seed=1")));
    BOOST_TEST(all_right(cold->call("verify seed=1")));
}

BOOST_FIXTURE_TEST_CASE(a_removed_file_goes_on, Scene) {
    auto cold = start_reader();
    BOOST_REQUIRE(unlink(path.c_str()) == 0);
    BOOST_TEST(all_right(cold->call("verify seed=1 order=random block=65536")));
}

BOOST_FIXTURE_TEST_CASE(a_rewritten_file_shows_its_new_bytes_to_who_had_the_old, Scene) {
    auto reader = start_warm_reader();
    rewrite(path, 2, 0, kFileBytes);
    // Until tierd has noticed, each page is wholly the old one or wholly the new one.
    BOOST_TEST(reader->call("verify seed=1 other_seed=2")["wrong"] == 0u);
    BOOST_TEST(becomes_right(*reader, "verify seed=2"));
    BOOST_TEST(is_all(reader->call("backing"), "file"));
    BOOST_TEST(daemon.counter("generations_changed") == 1u);
    BOOST_TEST(counted(daemon.status()["fall_backs"], "changed") >= 1u);
}

BOOST_FIXTURE_TEST_CASE(a_reader_that_comes_after_the_rewriting_never_sees_an_old_byte, Scene) {
    auto reader = start_warm_reader();
    rewrite(path, 2, 0, kFileBytes);
    auto later = start_reader();
    const Json told = later->call("verify seed=2");
    BOOST_TEST(all_right(told), told.dump());
    BOOST_TEST(becomes_right(*reader, "verify seed=2"));
}

BOOST_FIXTURE_TEST_CASE(a_part_rewritten_and_dated_back_is_noticed_too, Scene) {
    auto reader = start_warm_reader();
    struct stat before = {};
    BOOST_REQUIRE(stat(path.c_str(), &before) == 0);
    rewrite(path, 2, 6 * kMiB + 4096, 8192);
    const timespec times[2] = {before.st_atim, before.st_mtim};
    BOOST_REQUIRE(utimensat(AT_FDCWD, path.c_str(), times, 0) == 0);
    BOOST_TEST(becomes_right(*reader, "verify seed=2 from=6295552 length=8192"));
    BOOST_TEST(all_right(reader->call("verify seed=1 length=6295552")));
    BOOST_TEST(all_right(reader->call("verify seed=1 from=6303744")));
}

BOOST_FIXTURE_TEST_CASE(a_truncated_file_is_sigbus_behind_its_new_end, Scene) {
    auto warm = start_warm_reader();
    auto cold = start_reader();
    const uint64_t kept = 9 * kMiB + 1000;
    BOOST_REQUIRE(truncate(path.c_str(), off_t(kept)) == 0);
    const uint64_t gone_pages = round_up(kFileBytes, 4096) / 4096 - round_up(kept, 4096) / 4096;
    for (ReaderProcess* reader : {warm.get(), cold.get()}) {
        Json told;
        BOOST_TEST(comes_true([&] {
            told = reader->call("verify seed=1 file_bytes=" + std::to_string(kept));
            return told["wrong"] == 0u;
        }));
        BOOST_TEST(told["sigbus"] == gone_pages);
        BOOST_TEST(told["first_sigbus"] == round_up(kept, 4096));
    }
}

BOOST_FIXTURE_TEST_CASE(a_grown_file_keeps_its_bytes_and_shows_the_new_ones, Scene) {
    const uint64_t grown = kFileBytes + 3 * kMiB;
    auto exact = start_warm_reader();
    auto beyond = start_reader("length=" + std::to_string(grown));
    rewrite(path, 1, round_down(kFileBytes, 8), grown - round_down(kFileBytes, 8));
    const std::string line = "verify seed=1 file_bytes=" + std::to_string(grown);
    BOOST_TEST(becomes_right(*exact, line));  // the rest of its last page was zeros before
    BOOST_TEST(becomes_right(*beyond, line));
    auto later = start_reader();
    BOOST_TEST(all_right(later->call(line)));
    BOOST_TEST(is_all(later->call("backing"), "arena"));
}

BOOST_FIXTURE_TEST_CASE(a_file_rewritten_again_and_again_under_readers_settles_on_the_last_bytes, Scene) {
    auto reader = start_warm_reader();
    for (uint64_t seed = 2; seed < 8; ++seed) {
        rewrite(path, seed, 0, kFileBytes);
        auto later = start_reader();
        const Json told = later->call("verify threads=2 seed=" + std::to_string(seed));
        BOOST_TEST(all_right(told), told.dump());
    }
    BOOST_TEST(becomes_right(*reader, "verify seed=7"));
}
