// cuda_window_test.cc - the bookkeeping of elastic memory, and the hash that proves a chunk unwritten.
#define BOOST_TEST_MODULE cuda_window
#include "cuda_shim/cuda/window.h"

#include <boost/test/unit_test.hpp>
#include <random>
#include <vector>

#include "cuda_shim/cuda/ahead.h"
#include "cuda_shim/cuda/hash.h"

using namespace tierd::shim::cuda;

namespace {

constexpr uint64_t kBase = 0x700000000000;

struct SmallWindow {
    Window window;
    SmallWindow() { BOOST_REQUIRE(window.prepare(kBase, 8)); }
    ~SmallWindow() { window.discard(); }
};

}  // namespace

BOOST_FIXTURE_TEST_SUITE(cuda_window, SmallWindow)

BOOST_AUTO_TEST_CASE(allocations_lie_in_chunks_of_their_own_and_are_found_by_address) {
    uint32_t a = window.allocate(kChunkBytes + 1), b = window.allocate(kChunkBytes);
    BOOST_TEST(window.allocated_chunks() == 3u);
    BOOST_TEST(window.absent_chunks() == 3u);
    BOOST_TEST(window.find(kBase) == a);
    BOOST_TEST(window.find(kBase + kChunkBytes) == a);
    BOOST_TEST(window.find(kBase + kChunkBytes + 1) == kNone);  // behind its end, in its last chunk
    BOOST_TEST(window.find(kBase + 2 * kChunkBytes) == b);
    BOOST_TEST(window.find(kBase - 1) == kNone);
    BOOST_TEST(window.find(kBase + 8 * kChunkBytes) == kNone);
}

BOOST_AUTO_TEST_CASE(room_that_was_freed_is_used_again) {
    uint32_t a = window.allocate(3 * kChunkBytes);
    window.allocate(4 * kChunkBytes);
    BOOST_TEST(window.allocate(2 * kChunkBytes) == kNone);
    window.release(a);
    BOOST_TEST(window.allocate(2 * kChunkBytes) != kNone);
    BOOST_TEST(window.find(kBase) != kNone);
    BOOST_TEST(window.allocate(9 * kChunkBytes) == kNone);
    BOOST_TEST(window.allocate(0) == kNone);
}

BOOST_AUTO_TEST_CASE(counts_follow_the_chunks_through_their_states) {
    uint32_t a = window.allocate(2 * kChunkBytes);
    window.change(0, ChunkEvent::fill);
    window.change(1, ChunkEvent::bring);
    BOOST_TEST(window.absent_chunks() == 0u);
    BOOST_TEST(window.resident_chunks() == 2u);
    window.change(1, ChunkEvent::drop);
    BOOST_TEST(window.allocation(a).absent == 1u);
    window.release(a);
    BOOST_TEST(window.allocated_chunks() == 0u);
    BOOST_TEST(window.absent_chunks() == 0u);
}

BOOST_AUTO_TEST_CASE(a_chunk_of_a_whole_piece_is_covered_and_a_part_is_not) {
    window.allocate(kChunkBytes + 100);
    BOOST_TEST(window.record(0, 0, kChunkBytes, 3, 4096));
    BOOST_TEST(window.covered(0));
    BOOST_TEST(!window.covered(1));
    BOOST_TEST(window.record(1, 0, 100, 3, 0));
    BOOST_TEST(window.covered(1));
}

BOOST_AUTO_TEST_CASE(pieces_recorded_in_any_order_leave_each_byte_to_the_last) {
    std::mt19937_64 random(11);
    window.allocate(kChunkBytes);
    constexpr uint32_t kBytes = 4096;  // the part of the chunk that is looked at
    for (int round = 0; round < 200; round++) {
        std::vector<int64_t> expected(kBytes, -1);
        for (int i = 0; i < 40; i++) {
            uint32_t begin = random() % kBytes, length = 1 + random() % (kBytes - begin);
            uint64_t offset = random() % 100000;
            BOOST_REQUIRE(window.record(0, begin, length, 1, offset));
            for (uint32_t k = 0; k < length; k++) expected[begin + k] = static_cast<int64_t>(offset + k);
        }
        std::vector<int64_t> seen(kBytes, -1);
        for (uint32_t row = window.chunk(0).pieces; row != kNone; row = window.piece(row).next)
            for (uint32_t k = 0; k < window.piece(row).length; k++) {
                BOOST_REQUIRE(seen[window.piece(row).begin + k] == -1);  // no byte twice
                seen[window.piece(row).begin + k] = static_cast<int64_t>(window.piece(row).offset_bytes + k);
            }
        BOOST_REQUIRE(seen == expected);
        window.forget_pieces(0);
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
    for (int i = 0; i < 3; i++) window.allocate(kChunkBytes);
    BOOST_TEST(ahead.expected(window, 1) == kNone);
    for (uint32_t row : {0u, 1u, 2u, 0u}) ahead.learn(window, row);
    BOOST_TEST(ahead.expected(window, 5) == 1u);
    ahead.learn(window, 1);
    BOOST_TEST(ahead.expected(window, 6) == 2u);
    window.release(2);
    BOOST_TEST(ahead.expected(window, 7) == kNone);
}

BOOST_AUTO_TEST_CASE(nothing_is_expected_for_a_while_where_guesses_were_wrong) {
    Ahead ahead;
    for (int i = 0; i < 2; i++) window.allocate(kChunkBytes);
    for (uint32_t row : {0u, 1u, 0u}) ahead.learn(window, row);
    for (uint32_t i = 0; i < Ahead::kRound; i++) ahead.outcome(i < Ahead::kEnough, 10);
    BOOST_TEST(ahead.expected(window, 11) == 1u);
    for (uint32_t i = 0; i < Ahead::kRound; i++) ahead.outcome(i + 1 < Ahead::kEnough, 20);
    BOOST_TEST(ahead.expected(window, 21) == kNone);
    BOOST_TEST(ahead.expected(window, 20 + Ahead::kPauseCalls) == 1u);
}

BOOST_AUTO_TEST_SUITE_END()
