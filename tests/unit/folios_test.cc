#define BOOST_TEST_MODULE folios
#include <boost/test/unit_test.hpp>
#include <iostream>
#include <random>

#include "lib/arena/arena_store.h"
#include "lib/base/bytes.h"

using namespace tierd;

BOOST_AUTO_TEST_CASE(an_extent_in_folios_takes_its_own_memory_and_nothing_of_its_neighbours) {
    auto store = ArenaStore::discover(HugePages::thp, kGiB);
    auto arena = store.make_arena(8 * kMiB, 2 * kMiB, false).value();
    if (!arena.makes_folios()) {
        std::cout << "skipped: the kernel makes no folios below 2 MiB here, or its settings can't be written"
                  << std::endl;
        std::_Exit(77);
    }
    constexpr const char* kMade = "/sys/kernel/mm/transparent_hugepage/hugepages-256kB/stats/shmem_alloc";
    auto made = [] { return std::stoull(ChangedSettings::read(kMade)); };
    constexpr uint64_t kPage = 4 * kKiB;
    std::mt19937 random(7);
    for (int round = 0; round < 50; round++) {
        const uint64_t begin = random() % 512 * kPage;
        const uint64_t length = (64 + random() % 1024) * kPage;
        const uint64_t before = made();
        arena.populate_folios(begin, length);
        BOOST_TEST(arena.allocated_bytes() == length);
        // What lies between the first and the last multiple has room for whole ones.
        const uint64_t whole =
            round_down(begin + length - kPage, 256 * kKiB) - round_up(begin + kPage, 256 * kKiB);
        if (whole < 2 * kMiB) BOOST_TEST(made() - before >= whole / (256 * kKiB));
        for (uint64_t at = begin; at < begin + length; at += kPage)
            arena.at(at)[17] = static_cast<char>(at >> 12);
        // Any page of it can be renewed, and the rest stays as it was.
        for (uint64_t page : {uint64_t{0}, random() % (length / kPage)})
            BOOST_TEST(arena.rearm_page(begin + page * kPage).has_value());
        bool same = true;
        for (uint64_t at = begin; at < begin + length; at += kPage)
            same &= arena.at(at)[17] == static_cast<char>(at >> 12);
        BOOST_TEST(same);
        BOOST_TEST(arena.allocated_bytes() == length);
        BOOST_REQUIRE(arena.release(begin, length).has_value());
        BOOST_TEST(arena.allocated_bytes() == 0u);
    }
}
