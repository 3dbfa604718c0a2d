// The stand-in and the harness under the kernel's own mapping, without tierd: what the other tests rely on,
// above all that wrong bytes are found.
#define BOOST_TEST_MODULE harness
#include <boost/test/unit_test.hpp>

#include "lib/base/bytes.h"
#include "tests/integration/harness.h"

using namespace tierd;
using namespace tierd::itest;

namespace {

constexpr uint64_t kFileBytes = 8 * kMiB + 5000;

struct PlainFile {
    PlainFile() { make_file(path, 7, kFileBytes); }
    WorkDir dir;
    std::string path = dir.file("plain.weights");
    ReaderProcess reader{dir, {}};
};

}  // namespace

BOOST_FIXTURE_TEST_CASE(a_right_file_reads_right_in_every_order, PlainFile) {
    reader.call("map path=" + path);
    for (const char* order : {"sequential", "random", "stride"}) {
        const Json told = reader.call("verify seed=7 threads=8 block=65536 order=" + std::string(order));
        BOOST_TEST(told["wrong"] == 0u);
        BOOST_TEST(told["bytes"] == round_up(kFileBytes, 4096));
    }
    BOOST_TEST(is_all(reader.call("backing"), "file"));
}

BOOST_FIXTURE_TEST_CASE(wrong_bytes_are_counted_and_placed, PlainFile) {
    rewrite(path, 8, 3 * kMiB, 8);
    reader.call("map path=" + path);
    const Json told = reader.call("verify seed=7");
    BOOST_TEST(told["wrong"].get<unsigned>() > 0u);
    BOOST_TEST(told["wrong"].get<unsigned>() <= 8u);
    BOOST_TEST(told["first_wrong"] == 3 * kMiB);
    BOOST_TEST(reader.call("verify seed=8")["wrong"].get<uint64_t>() > 8 * kMiB * 9 / 10);
}

BOOST_FIXTURE_TEST_CASE(a_page_of_zeros_and_a_page_of_another_place_are_wrong, PlainFile) {
    make_island_file(path, 7, kFileBytes, {0}, 4 * kMiB);
    reader.call("map path=" + path);
    BOOST_TEST(reader.call("verify seed=7 length=4194304")["wrong"] == 0u);
    BOOST_TEST(reader.call("verify seed=7 from=4194304 length=4096")["wrong"].get<unsigned>() > 4000u);
    BOOST_TEST(wrong_bytes_in_file(path, 7, 4096) > 4000u);
}

BOOST_FIXTURE_TEST_CASE(pages_behind_the_end_are_sigbus, PlainFile) {
    reader.call("map path=" + path + " length=" + std::to_string(kFileBytes + 65536));
    const Json told = reader.call("verify seed=7");
    BOOST_TEST(told["wrong"] == 0u);
    BOOST_TEST(told["sigbus"] == 16u);
    BOOST_TEST(told["first_sigbus"] == round_up(kFileBytes, 4096));
}

BOOST_FIXTURE_TEST_CASE(own_writes_are_checked_and_a_lost_one_is_found, PlainFile) {
    reader.call("map prot=rw path=" + path);
    BOOST_TEST(reader.call("write seed=7 threads=4 steps=500")["wrong"] == 0u);
    const Json told = reader.call("verify-writes seed=7");
    BOOST_TEST(told["wrong"] == 0u);
    BOOST_TEST(told["written_pages"].get<unsigned>() > 100u);
    BOOST_TEST(wrong_bytes_in_file(path, 7, 0) == 0u);
    reader.call("madvise advice=dontneed from=0 length=4194304");
    BOOST_TEST(reader.call("verify-writes seed=7")["wrong"].get<uint64_t>() > 0u);
}

BOOST_FIXTURE_TEST_CASE(children_of_every_kind_are_waited_for, PlainFile) {
    reader.call("map path=" + path);
    const std::string file = " seed=7 path=" + path;
    BOOST_TEST(reader.call("fork-verify seed=7")["child_status"] == 0);
    BOOST_TEST(reader.call("spawn-verify" + file)["child_status"] == 0);
    BOOST_TEST(reader.call("vfork-verify" + file)["child_status"] == 0);
    BOOST_TEST(reader.call("clone-exit")["child_status"] == 0);
    BOOST_TEST(reader.call("spawn-verify seed=8 path=" + path)["child_status"] != 0);
}

BOOST_FIXTURE_TEST_CASE(what_stands_behind_a_mapping_is_seen, PlainFile) {
    reader.call("map path=" + path);
    reader.call("munmap from=4096 length=8192");
    BOOST_TEST(reader.call("map-zeros-over from=16384 length=4096")["wrong"] == 0u);
    const Json runs = reader.call("backing")["runs"];
    BOOST_REQUIRE(runs.size() == 5u);
    BOOST_TEST(runs[0]["what"] == "file");
    BOOST_TEST(runs[1]["what"] == "nothing");
    BOOST_TEST(runs[3]["what"] == "anonymous");
}

BOOST_FIXTURE_TEST_CASE(a_reader_that_dies_is_reported_with_its_status, PlainFile) {
    reader.call("map path=" + path);
    reader.call("munmap");
    BOOST_CHECK_THROW(reader.call("verify seed=7"), std::runtime_error);
}
