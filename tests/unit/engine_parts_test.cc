#define BOOST_TEST_MODULE engine_parts
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <boost/test/unit_test.hpp>
#include <filesystem>
#include <random>

#include "lib/arena/arena_store.h"
#include "lib/base/bytes.h"
#include "lib/base/worker.h"
#include "lib/engine/client.h"
#include "lib/fault/userfaultfd.h"
#include "lib/io/origin.h"
#include "lib/io/reader.h"
#include "lib/policy/extent_table.h"
#include "lib/session/packet.h"
#include "lib/tier/memory_tier.h"

using namespace tierd;

namespace {

Fd temporary_file(uint64_t bytes) {
    std::string path = (std::filesystem::temp_directory_path() / "tierd-parts-XXXXXX").string();
    Fd fd(::mkstemp(path.data()));
    BOOST_REQUIRE(bool(fd));
    ::unlink(path.c_str());
    std::string content(bytes, '\0');
    for (uint64_t i = 0; i < bytes; i++) content[i] = static_cast<char>(i / 4096 + i);
    BOOST_REQUIRE(::write(fd.get(), content.data(), content.size()) == static_cast<ssize_t>(bytes));
    ::fsync(fd.get());
    return fd;
}

std::shared_ptr<WeightFile> file_of(uint64_t extents, uint64_t extent_bytes) {
    Fd fd = temporary_file(4096);
    auto origin = open_origin(fd, false).value();
    origin.identity.size_bytes = extents * extent_bytes;
    auto arena =
        ArenaStore::discover(HugePages::off, kGiB).make_arena(extents * extent_bytes, extent_bytes, false);
    auto file = std::make_shared<WeightFile>(std::move(origin), std::move(*arena));
    file->number = 1;
    file->layout = ExtentLayout::even(extents * extent_bytes, extent_bytes);
    file->extent_count = static_cast<uint32_t>(extents);
    return file;
}

uint64_t mapped_bytes(const Client& client) {
    uint64_t bytes = 0;
    for (const Region& region : client.regions) bytes += region.length_bytes;
    return bytes;
}

}  // namespace

BOOST_AUTO_TEST_CASE(rows_given_back_are_clean_and_taken_again) {
    auto table = ExtentTable::make().value();
    ExtentId first = *table.take(100), second = *table.take(50), third = *table.take(10);
    table[second].heat = 7;
    table.give_back(second, 50);
    BOOST_TEST(*table.take(50) == second);
    BOOST_TEST(table[second].heat == 0u);
    table.give_back(first, 100);
    table.give_back(second, 50);
    BOOST_TEST(*table.take(150) == first);  // neighbours had become one
    table.give_back(third, 10);
    BOOST_TEST(table.size() == 150u);
    BOOST_TEST(!table.take(UINT32_MAX).has_value());
}

BOOST_AUTO_TEST_CASE(many_random_takes_never_overlap) {
    auto table = ExtentTable::make().value();
    std::mt19937 random(20261124);
    std::map<ExtentId, uint32_t> taken;
    for (int i = 0; i < 5000; i++) {
        if (taken.empty() || random() % 2 == 0) {
            uint32_t count = 1 + random() % 300;
            ExtentId first = *table.take(count);
            auto next = taken.lower_bound(first);
            if (next != taken.end()) BOOST_REQUIRE(first + count <= next->first);
            if (next != taken.begin())
                BOOST_REQUIRE(std::prev(next)->first + std::prev(next)->second <= first);
            taken[first] = count;
        } else {
            auto victim = std::next(taken.begin(), random() % taken.size());
            table.give_back(victim->first, victim->second);
            taken.erase(victim);
        }
    }
}

BOOST_AUTO_TEST_CASE(cutting_regions_leaves_the_rest_at_the_right_offsets) {
    Client client;
    auto file = file_of(8, 64 * kKiB);
    client.add_region({.address = 0x100000, .length_bytes = 0x40000, .offset_bytes = 0x10000, .file = file});
    client.cut(0x110000, 0x8000);
    BOOST_REQUIRE(client.regions.size() == 2u);
    BOOST_TEST(client.find(0x110000) == nullptr);
    BOOST_TEST(client.find(0x10ffff)->offset_bytes == 0x10000u);
    BOOST_TEST(client.find(0x118000)->offset_bytes == 0x28000u);
    auto cut = client.cut_ordered({1, 0x28000, 0x1000, {}});
    BOOST_REQUIRE(cut.size() == 1u);
    BOOST_TEST(cut[0].address == 0x118000u);
    BOOST_TEST(client.find(0x118000) == nullptr);
    BOOST_TEST(client.find(0x119000)->offset_bytes == 0x29000u);
    BOOST_TEST(mapped_bytes(client) == 0x40000u - 0x8000u - 0x1000u);
    BOOST_TEST(client.cut_ordered({2, 0, UINT32_MAX, {}}).empty());
    BOOST_TEST(mapped_bytes(client) == 0x40000u - 0x8000u - 0x1000u);
}

BOOST_AUTO_TEST_CASE(an_extents_range_in_a_region_is_cut_at_the_regions_edges) {
    auto file = file_of(4, 64 * kKiB);
    Region region{.address = 0x700000, .length_bytes = 0x18000, .offset_bytes = 0x8000, .file = file};
    BOOST_TEST(range_of(region, 0).address == 0x700000u);
    BOOST_TEST(range_of(region, 0).length_bytes == 0x8000u);
    BOOST_TEST(range_of(region, 1).address == 0x708000u);
    BOOST_TEST(range_of(region, 1).length_bytes == 0x10000u);
    BOOST_TEST(range_of(region, 2).length_bytes == 0u);
}

BOOST_AUTO_TEST_CASE(a_tier_grants_no_more_than_its_capacity) {
    MemoryTier tier(100);
    BOOST_TEST(tier.grant(60));
    BOOST_TEST(!tier.grant(41));
    BOOST_TEST(tier.grant(40));
    BOOST_TEST(tier.free_bytes() == 0u);
    tier.resize(50);
    BOOST_TEST(!tier.grant(1));
    tier.give_back(70);
    BOOST_TEST(tier.free_bytes() == 20u);
}

BOOST_AUTO_TEST_CASE(arenas_of_every_backing_give_their_memory_back_and_stay_read_only_for_clients) {
    for (HugePages huge : {HugePages::off, HugePages::thp, HugePages::hugetlb}) {
        ArenaStore store = ArenaStore::discover(huge, 64 * kMiB);
        auto arena = store.make_arena(5 * kMiB, 2 * kMiB, true);
        BOOST_REQUIRE_MESSAGE(arena.has_value(), (arena ? "" : arena.error().text()));
        BOOST_TEST_INFO(backing_name(arena->backing()));
        BOOST_TEST(arena->length_bytes() == 6 * kMiB);
        BOOST_TEST(arena->allocated_bytes() == 0u);
        BOOST_REQUIRE(arena->reserve(2 * kMiB, 2 * kMiB).has_value());
        arena->at(2 * kMiB)[12345] = 'x';
        BOOST_TEST(arena->allocated_bytes() > 0u);
        BOOST_TEST(::write(arena->readonly_fd(), "y", 1) == -1);
        BOOST_TEST(::ftruncate(arena->readonly_fd(), 0) == -1);
        BOOST_REQUIRE(arena->release(2 * kMiB, 2 * kMiB).has_value());
        BOOST_TEST(arena->allocated_bytes() == 0u);
        BOOST_TEST(arena->at(2 * kMiB)[12345] == 0);
    }
}

BOOST_AUTO_TEST_CASE(only_readable_regular_files_become_origins) {
    auto refused = [](const char* path, int flags) {
        auto fd = open_file(path, flags);
        BOOST_REQUIRE(fd.has_value());
        return !open_origin(*fd, true).has_value();
    };
    BOOST_TEST(refused("/dev/zero", O_RDONLY));
    BOOST_TEST(refused("/tmp", O_RDONLY | O_DIRECTORY));
    BOOST_TEST(refused("/proc/self/exe", O_PATH));
    BOOST_TEST(refused("/dev/null", O_WRONLY));
    int pipe_ends[2];
    BOOST_REQUIRE(::pipe2(pipe_ends, O_CLOEXEC) == 0);
    Fd reading(pipe_ends[0]), writing(pipe_ends[1]);
    BOOST_TEST(!open_origin(reading, true).has_value());
    Fd file = temporary_file(10000);
    BOOST_TEST(open_origin(file, true).has_value());
}

BOOST_AUTO_TEST_CASE(an_origin_notices_that_its_file_changed) {
    Fd file = temporary_file(10000);
    auto origin = open_origin(file, true).value();
    BOOST_TEST(origin.unchanged());
    BOOST_REQUIRE(::pwrite(file.get(), "new", 3, 100) == 3);
    BOOST_TEST(!origin.unchanged());
}

BOOST_AUTO_TEST_CASE(the_reader_reads_direct_and_buffered_up_to_an_odd_end) {
    constexpr uint64_t kBytes = 3 * kMiB + 777;
    Fd file = temporary_file(kBytes);
    for (bool direct : {true, false}) {
        auto origin = open_origin(file, direct).value();
        auto reader = Reader::make(8, 16).value();
        int slot = reader->add_file(origin.fd.get()).value();
        std::unique_ptr<char, decltype(&::free)> into(static_cast<char*>(::aligned_alloc(4096, 4 * kMiB)),
                                                      &::free);
        BOOST_REQUIRE(reader->read({.tag = 42,
                                    .file = slot,
                                    .offset_bytes = 2 * kMiB,
                                    .length_bytes = 2 * kMiB,
                                    .into = into.get()}));
        reader->flush();
        Completion seen;
        while (reader->in_flight() > 0)
            reader->reap([&](const Completion& completion) { seen = completion; });
        BOOST_TEST(seen.tag == 42u);
        BOOST_TEST(seen.result == static_cast<int64_t>(kBytes - 2 * kMiB));
        uint64_t last = kBytes - 1;
        BOOST_TEST(into.get()[last - 2 * kMiB] == static_cast<char>(last / 4096 + last));
        reader->remove_file(slot);
    }
}

BOOST_AUTO_TEST_CASE(what_is_no_userfaultfd_is_refused) {
    BOOST_TEST(!Userfaultfd::adopt(temporary_file(4096)).has_value());
    BOOST_TEST(!Userfaultfd::adopt(make_eventfd().value()).has_value());
}

BOOST_AUTO_TEST_CASE(messages_that_break_the_rules_are_refused_and_their_descriptors_closed) {
    int pair[2];
    BOOST_REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
    Fd ours(pair[0]), theirs(pair[1]);
    auto hello = make_message<wire::Hello>(wire::Kind::hello, 9);
    BOOST_REQUIRE(send_message(ours.get(), hello).has_value());
    auto packet = receive_packet(theirs.get());
    BOOST_REQUIRE(packet.has_value());
    BOOST_TEST(packet->as<wire::Hello>()->header.sequence == 9u);
    BOOST_TEST(!packet->as<wire::Map>().has_value());

    auto wrong_magic = hello, wrong_version = hello, wrong_size = hello;
    wrong_magic.header.magic++;
    wrong_version.header.version++;
    wrong_size.header.size_bytes++;
    for (const auto& bad : {wrong_magic, wrong_version, wrong_size}) {
        BOOST_REQUIRE(send_message(ours.get(), bad).has_value());
        auto refused = receive_packet(theirs.get());
        BOOST_REQUIRE(!refused.has_value());
        BOOST_TEST((refused.error().code == Code::bad_input));
    }
    BOOST_REQUIRE(::send(ours.get(), "x", 1, 0) == 1);
    BOOST_TEST(!receive_packet(theirs.get()).has_value());
    std::string huge(4096, 'x');
    BOOST_REQUIRE(::send(ours.get(), huge.data(), huge.size(), 0) == static_cast<ssize_t>(huge.size()));
    BOOST_TEST(!receive_packet(theirs.get()).has_value());
    ours.reset();
    BOOST_TEST((receive_packet(theirs.get()).error().code == Code::gone));
}

BOOST_AUTO_TEST_CASE(a_worker_runs_every_job_in_order_even_those_queued_at_its_end) {
    std::vector<int> ran;
    {
        Worker worker("test-worker");
        for (int i = 0; i < 1000; i++) worker.post([&ran, i] { ran.push_back(i); });
    }
    BOOST_REQUIRE(ran.size() == 1000u);
    BOOST_TEST(std::is_sorted(ran.begin(), ran.end()));
}

// A hole reads as zeros: put back, it would be a page that says so.
BOOST_AUTO_TEST_CASE(a_page_that_is_not_in_memory_is_not_renewed) {
    auto arena = ArenaStore::discover(HugePages::off, kGiB).make_arena(kMiB, kMiB, false).value();
    std::memset(arena.at(0), 7, kMiB);
    BOOST_REQUIRE(arena.release(4 * kKiB, 4 * kKiB).has_value());
    auto renewed = arena.rearm_page(4 * kKiB);
    BOOST_REQUIRE(!renewed.has_value());
    BOOST_TEST((renewed.error().code == Code::gone));
    BOOST_TEST(arena.allocated_bytes() == kMiB - 4 * kKiB);
    BOOST_TEST(arena.rearm_page(8 * kKiB).has_value());
}

BOOST_AUTO_TEST_CASE(a_renewed_page_is_unmapped_everywhere_and_keeps_its_bytes) {
    auto store = ArenaStore::discover(HugePages::off, kGiB);
    auto arena = store.make_arena(2 * kMiB, 64 * kKiB, false).value();
    for (uint64_t at = 0; at < 64 * kKiB; at++) arena.at(0)[at] = static_cast<char>(at % 251);
    void* seen = ::mmap(nullptr, 64 * kKiB, PROT_READ, MAP_SHARED, arena.readonly_fd(), 0);
    BOOST_REQUIRE(seen != MAP_FAILED);
    Mapping client(seen, 64 * kKiB);
    auto all_right = [&] {
        for (uint64_t at = 0; at < 64 * kKiB; at++)
            if (client.data()[at] != static_cast<char>(at % 251)) return false;
        return true;
    };
    BOOST_TEST(all_right());
    uint64_t allocated_bytes = arena.allocated_bytes();
    BOOST_REQUIRE(arena.rearm_page(4 * kKiB).has_value());
    BOOST_TEST(arena.allocated_bytes() == allocated_bytes);
    Fd pagemap = open_file("/proc/self/pagemap", O_RDONLY).value();
    auto is_mapped = [&](uint64_t page) {
        uint64_t entry = 0;
        auto at = static_cast<off_t>((reinterpret_cast<uint64_t>(seen) / 4096 + page) * 8);
        BOOST_TEST(::pread(pagemap.get(), &entry, sizeof entry, at) == ssize_t{sizeof entry});
        return (entry >> 63) != 0;
    };
    BOOST_TEST(is_mapped(0));
    BOOST_TEST(!is_mapped(1));
    BOOST_TEST(is_mapped(2));
    BOOST_TEST(all_right());
}
