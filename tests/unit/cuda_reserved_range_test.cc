// cuda_reserved_range_test.cc - the bookkeeping of elastic memory, and the hash that proves a chunk unwritten.
#define BOOST_TEST_MODULE cuda_window
#include "cuda_shim/cuda/reserved_range.h"

#include <boost/test/unit_test.hpp>
#include <random>
#include <vector>

#include "cuda_shim/cuda/ahead.h"
#include "cuda_shim/cuda/hash.h"

using namespace tierd::shim::cuda;

namespace {

constexpr uint64_t kBase = 0x700000000000;

struct SmallWindow {
    ReservedRange range;
    SmallWindow() { BOOST_REQUIRE(range.prepare(kBase, 8)); }
    ~SmallWindow() { range.discard(); }
};

}  // namespace

BOOST_FIXTURE_TEST_SUITE(cuda_window, SmallWindow)

BOOST_AUTO_TEST_CASE(allocations_lie_in_chunks_of_their_own_and_are_found_by_address) {
    uint32_t a = range.allocate(kChunkBytes + 1), b = range.allocate(kChunkBytes);
    BOOST_TEST(range.allocated_chunks() == 3u);
    BOOST_TEST(range.absent_chunks() == 3u);
    BOOST_TEST(range.find(kBase) == a);
    BOOST_TEST(range.find(kBase + kChunkBytes) == a);
    BOOST_TEST(range.find(kBase + kChunkBytes + 1) == kNone);  // behind its end, in its last chunk
    BOOST_TEST(range.find(kBase + 2 * kChunkBytes) == b);
    BOOST_TEST(range.find(kBase - 1) == kNone);
    BOOST_TEST(range.find(kBase + 8 * kChunkBytes) == kNone);
}

BOOST_AUTO_TEST_CASE(room_that_was_freed_is_used_again) {
    uint32_t a = range.allocate(3 * kChunkBytes);
    range.allocate(4 * kChunkBytes);
    BOOST_TEST(range.allocate(2 * kChunkBytes) == kNone);
    range.release(a);
    BOOST_TEST(range.allocate(2 * kChunkBytes) != kNone);
    BOOST_TEST(range.find(kBase) != kNone);
    BOOST_TEST(range.allocate(9 * kChunkBytes) == kNone);
    BOOST_TEST(range.allocate(0) == kNone);
}

BOOST_AUTO_TEST_CASE(counts_follow_the_chunks_through_their_states) {
    uint32_t a = range.allocate(2 * kChunkBytes);
    range.change(0, ChunkEvent::fill);
    range.change(1, ChunkEvent::map);
    BOOST_TEST(range.absent_chunks() == 0u);
    BOOST_TEST(range.resident_chunks() == 2u);
    range.change(1, ChunkEvent::evict);
    BOOST_TEST(range.allocation(a).absent == 1u);
    range.release(a);
    BOOST_TEST(range.allocated_chunks() == 0u);
    BOOST_TEST(range.absent_chunks() == 0u);
}

BOOST_AUTO_TEST_CASE(a_chunk_of_a_whole_slice_is_covered_and_a_part_is_not) {
    range.allocate(kChunkBytes + 100);
    BOOST_TEST(range.record(0, 0, kChunkBytes, 3, 4096));
    BOOST_TEST(range.covered(0));
    BOOST_TEST(!range.covered(1));
    BOOST_TEST(range.record(1, 0, 100, 3, 0));
    BOOST_TEST(range.covered(1));
}

BOOST_AUTO_TEST_CASE(slices_recorded_in_any_order_leave_each_byte_to_the_last) {
    std::mt19937_64 random(11);
    range.allocate(kChunkBytes);
    constexpr uint32_t kBytes = 4096;  // the part of the chunk that is looked at
    for (int round = 0; round < 200; round++) {
        std::vector<int64_t> expected(kBytes, -1);
        for (int i = 0; i < 40; i++) {
            uint32_t begin = random() % kBytes, length = 1 + random() % (kBytes - begin);
            uint64_t offset = random() % 100000;
            BOOST_REQUIRE(range.record(0, begin, length, 1, offset));
            for (uint32_t k = 0; k < length; k++) expected[begin + k] = static_cast<int64_t>(offset + k);
        }
        std::vector<int64_t> seen(kBytes, -1);
        for (uint32_t row = range.chunk(0).slices; row != kNone; row = range.slice(row).next)
            for (uint32_t k = 0; k < range.slice(row).length; k++) {
                BOOST_REQUIRE(seen[range.slice(row).begin + k] == -1);  // no byte twice
                seen[range.slice(row).begin + k] = static_cast<int64_t>(range.slice(row).offset_bytes + k);
            }
        BOOST_REQUIRE(seen == expected);
        range.forget_slices(0);
    }
}

BOOST_AUTO_TEST_CASE(the_hash_sees_any_changed_bit_and_any_two_words_that_change_places) {
    std::mt19937_64 random(5);
    HashKey key{{random(), random()}};
    std::vector<uint64_t> words(4096);
    for (uint64_t& word : words) word = random() % 4 == 0 ? 0 : random();
    const Hash before = hash_words(key, words.data(), words.size());
    for (int i = 0; i < 500; i++) {
        size_t at = random() % words.size();
        uint64_t bit = uint64_t{1} << random() % 64;
        words[at] ^= bit;
        BOOST_TEST(!(hash_words(key, words.data(), words.size()) == before));
        words[at] ^= bit;
    }
    for (int i = 0; i < 500; i++) {
        size_t a = random() % words.size(), b = random() % words.size();
        if (words[a] == words[b]) continue;
        std::swap(words[a], words[b]);
        BOOST_TEST(!(hash_words(key, words.data(), words.size()) == before));
        std::swap(words[a], words[b]);
    }
    BOOST_TEST((hash_words(key, words.data(), words.size()) == before));
    HashKey other{{random(), random()}};
    BOOST_TEST(!(hash_words(other, words.data(), words.size()) == before));
}

BOOST_AUTO_TEST_CASE(who_followed_last_time_is_expected_next) {
    Ahead ahead;
    for (int i = 0; i < 3; i++) range.allocate(kChunkBytes);
    BOOST_TEST(ahead.expected(range, 1) == kNone);
    for (uint32_t row : {0u, 1u, 2u, 0u}) ahead.learn(range, row);
    BOOST_TEST(ahead.expected(range, 5) == 1u);
    ahead.learn(range, 1);
    BOOST_TEST(ahead.expected(range, 6) == 2u);
    range.release(2);
    BOOST_TEST(ahead.expected(range, 7) == kNone);
}

BOOST_AUTO_TEST_CASE(nothing_is_expected_for_a_while_where_guesses_were_wrong) {
    Ahead ahead;
    for (int i = 0; i < 2; i++) range.allocate(kChunkBytes);
    for (uint32_t row : {0u, 1u, 0u}) ahead.learn(range, row);
    for (uint32_t i = 0; i < Ahead::kRound; i++) ahead.outcome(i < Ahead::kEnough, 10);
    BOOST_TEST(ahead.expected(range, 11) == 1u);
    for (uint32_t i = 0; i < Ahead::kRound; i++) ahead.outcome(i + 1 < Ahead::kEnough, 20);
    BOOST_TEST(ahead.expected(range, 21) == kNone);
    BOOST_TEST(ahead.expected(range, 20 + Ahead::kPauseCalls) == 1u);
}

BOOST_AUTO_TEST_SUITE_END()
