// gpu_lease_table_test.cc - who gets a GPU's memory, and who is asked for it.
#define BOOST_TEST_MODULE gpu_lease_table
#include "lib/gpu/gpu_lease_table.h"

#include <boost/test/unit_test.hpp>
#include <random>

using namespace tierd;

namespace {

constexpr uint64_t kSlice = 100;

// The word to one lease among those that a step brought; fails the test when there is none.
LeaseUpdate update_for(const std::vector<LeaseUpdate>& words, uint64_t lease) {
    for (const LeaseUpdate& word : words)
        if (word.lease == lease) return word;
    BOOST_FAIL("no word for lease " << lease);
    return {};
}

struct TwoLeases {
    GpuLeaseTable book{10, 12, kSlice};  // the capacity, and the GPU
    TwoLeases() {
        book.open(1);
        book.open(2);
    }
    std::vector<LeaseUpdate> want(uint64_t lease, uint64_t bytes, uint64_t now) {
        BOOST_TEST(book.want(lease, bytes, bytes, now));
        return book.arbitrate(now);
    }
    std::vector<LeaseUpdate> holds(uint64_t lease, uint64_t bytes, uint64_t pinned, uint64_t now) {
        BOOST_TEST(book.holds(lease, bytes, pinned));
        return book.arbitrate(now);
    }
};

}  // namespace

BOOST_FIXTURE_TEST_SUITE(gpu_lease_table, TwoLeases)

BOOST_AUTO_TEST_CASE(what_is_free_is_granted_at_once) {
    auto words = want(1, 6, 0);
    BOOST_TEST(words.size() == 1u);
    BOOST_TEST(update_for(words, 1).lease_bytes == 6u);
    BOOST_TEST(book.leased_bytes() == 6u);
    BOOST_TEST(book.position_of(1, 0) == 0u);
}

BOOST_AUTO_TEST_CASE(what_is_missing_is_asked_of_the_other_not_before_its_slice_is_over) {
    want(1, 6, 7);
    auto words = want(2, 8, 10);
    LeaseUpdate order = update_for(words, 1);
    BOOST_TEST(order.reclaim);
    BOOST_TEST(order.lease_bytes == 2u);
    BOOST_TEST(order.not_before_ns == 7 + kSlice);
    BOOST_TEST(update_for(words, 2).position == 1u);
    words = holds(1, 2, 0, 20);
    BOOST_TEST(update_for(words, 2).lease_bytes == 8u);
}

BOOST_AUTO_TEST_CASE(nothing_is_granted_to_who_still_owes_an_answer) {
    want(1, 6, 0);
    want(2, 8, 1);                           // 1 is asked to come down to 2
    BOOST_TEST(want(1, 9, 2).size() == 1u);  // only its place in the queue
    auto words = holds(1, 2, 0, 3);          // now 2 gets its 8, and is asked for what 1 waits for
    BOOST_TEST(update_for(words, 2).lease_bytes == 8u);
    BOOST_TEST(book.leased_bytes() == 10u);
}

BOOST_AUTO_TEST_CASE(who_waits_is_asked_before_who_works) {
    book.open(3);
    want(1, 4, 0);
    want(2, 4, 50);
    want(1, 9, 60);  // 1 waits now, holding 4; 2 is asked
    auto words = want(3, 6, 61);
    for (const LeaseUpdate& word : words) BOOST_TEST(!word.reclaim);  // 3 is behind 1, whose turn it is
    holds(2, 1, 0, 70);
    BOOST_TEST(book.leases().at(1).lease_bytes == 9u);
    words = book.arbitrate(71);
    BOOST_TEST(book.leases().at(1).reclaim_target_bytes.has_value());
}

BOOST_AUTO_TEST_CASE(who_is_worth_more_is_served_before_who_came_sooner) {
    book.open(3);
    want(1, 10, 0);
    want(2, 10, 1);
    BOOST_TEST(book.set_priority(3, 5));
    BOOST_TEST(!book.set_priority(3, 5));
    BOOST_TEST(update_for(want(3, 10, 2), 3).position == 1u);
    BOOST_TEST(book.position_of(2, 2) == 2u);
    BOOST_TEST(update_for(holds(1, 0, 0, 3), 3).lease_bytes == 10u);
    BOOST_TEST(book.position_of(2, 3) == 1u);
}

BOOST_AUTO_TEST_CASE(who_is_worth_more_is_asked_last) {
    book.open(3);
    want(1, 5, 0);
    want(2, 5, 1);
    book.set_priority(1, 5);  // it has had its memory longest
    auto words = want(3, 4, 2);
    BOOST_TEST(update_for(words, 2).lease_bytes == 1u);
    BOOST_TEST(!book.leases().at(1).reclaim_target_bytes.has_value());
}

BOOST_AUTO_TEST_CASE(nobody_is_passed_over_for_longer_than_eight_slices) {
    book.open(3);
    want(1, 10, 0);
    want(2, 10, 1);
    book.set_priority(3, 5);
    want(3, 10, 2);
    BOOST_TEST(book.position_of(3, 1 + 8 * kSlice) == 1u);
    BOOST_TEST(book.position_of(2, 2 + 8 * kSlice) == 1u);
    BOOST_TEST(update_for(holds(1, 0, 0, 2 + 8 * kSlice), 2).lease_bytes == 10u);
}

BOOST_AUTO_TEST_CASE(what_others_have_pinned_is_not_promised) {
    want(1, 6, 0);
    BOOST_TEST(book.want(2, 1, 10, 1));
    book.arbitrate(1);
    auto words = holds(1, 5, 5, 2);
    BOOST_TEST(update_for(words, 2).lease_bytes == 5u);
    BOOST_TEST(update_for(words, 2).limit_bytes == 5u);
}

BOOST_AUTO_TEST_CASE(a_lease_that_ends_goes_to_the_first_in_the_queue) {
    want(1, 10, 0);
    want(2, 10, 1);
    book.close(1);
    BOOST_TEST(update_for(book.arbitrate(2), 2).lease_bytes == 10u);
}

BOOST_AUTO_TEST_CASE(numbers_that_make_no_sense_are_refused) {
    want(1, 4, 0);
    BOOST_TEST(!book.want(1, 5, 4, 0));
    BOOST_TEST(!book.want(7, 1, 1, 0));
    BOOST_TEST(!book.holds(1, 5, 0));
    BOOST_TEST(!book.holds(1, 3, 4));
    BOOST_TEST(book.leases().at(1).lease_bytes == 4u);
}

BOOST_AUTO_TEST_CASE(a_launch_that_needs_more_than_the_capacity_overdraws_when_nobody_else_has_anything) {
    auto words = want(1, 11, 0);
    BOOST_TEST(update_for(words, 1).lease_bytes == 11u);
    BOOST_TEST(book.leases().at(1).overcommits == 1u);
    // The next who wants some asks it back.
    words = want(2, 4, 10);
    BOOST_TEST(update_for(words, 1).reclaim);
    BOOST_TEST(update_for(words, 1).lease_bytes == 6u);
    BOOST_TEST(update_for(holds(1, 6, 0, 200), 2).lease_bytes == 4u);
}

BOOST_AUTO_TEST_CASE(an_overdraft_waits_until_the_others_have_only_what_they_pinned) {
    want(1, 6, 0);
    auto words = want(2, 11, 1);
    BOOST_TEST(update_for(words, 1).reclaim);
    BOOST_TEST(update_for(words, 1).lease_bytes == 0u);
    words = holds(1, 1, 1, 2);  // it has pinned one
    BOOST_TEST(update_for(words, 2).lease_bytes == 11u);
    BOOST_TEST(update_for(words, 2).overcommit_bytes == 11u);
}

BOOST_AUTO_TEST_CASE(what_the_gpu_itself_has_not_is_not_granted) {
    BOOST_TEST(update_for(want(1, 100, 0), 1).lease_bytes == 12u);
}

BOOST_AUTO_TEST_CASE(only_what_the_next_launch_needs_is_overdrawn) {
    BOOST_TEST(book.want(1, 3, 12, 0));
    BOOST_TEST(update_for(book.arbitrate(0), 1).lease_bytes == 10u);
}

BOOST_AUTO_TEST_CASE(in_any_order_of_events_the_gpu_is_never_promised_twice_and_everybody_has_his_turn) {
    constexpr uint64_t kCapacity = 64, kTotal = 72;
    std::mt19937_64 random(3);
    GpuLeaseTable gpu(kCapacity, kTotal, kSlice);
    std::map<uint64_t, uint64_t> told;  // what each process believes
    std::map<uint64_t, std::vector<uint64_t>> orders;
    uint64_t grants = 0, overdrawn = 0, now = 0;
    for (uint64_t n = 1; n <= 6; n++) gpu.open(n);
    std::map<uint64_t, uint64_t> served;
    for (int step = 0; step < 20000; step++) {
        if (random() % 16 == 0) gpu.set_priority(1 + random() % 6, random() % 3);
        uint64_t n = 1 + random() % 6;
        if (orders[n].empty()) {
            uint64_t want = 1 + random() % 80, need = random() % 8 == 0 ? want : 1;
            if (gpu.position_of(n, now) == 0) BOOST_TEST(gpu.want(n, need, want, now));
        } else {
            told[n] = std::min(told[n], orders[n].front());
            orders[n].erase(orders[n].begin());
            BOOST_TEST(gpu.holds(n, told[n], 0));
        }
        for (const LeaseUpdate& word : gpu.arbitrate(++now)) {
            if (word.reclaim) {
                orders[word.lease].push_back(word.lease_bytes);
            } else {
                grants += word.position == 0 ? 1 : 0;
                served[word.lease] += word.position == 0 ? 1 : 0;
                told[word.lease] = word.lease_bytes;
            }
        }
        uint64_t believed = 0, most = 0;
        for (auto& [number, bytes] : told) {
            believed += bytes;
            most = std::max(most, bytes);
        }
        // Beyond the capacity only one has anything, and never more than there is.
        BOOST_REQUIRE((believed <= kCapacity || believed == most));
        BOOST_REQUIRE((gpu.leased_bytes() <= kCapacity || gpu.leased_bytes() == most));
        BOOST_REQUIRE(believed <= kTotal);
        overdrawn += believed > kCapacity ? 1 : 0;
    }
    BOOST_TEST(grants > 1000u);
    for (uint64_t n = 1; n <= 6; n++) BOOST_TEST(served[n] > 100u);
    BOOST_TEST(overdrawn > 100u);
}

BOOST_AUTO_TEST_SUITE_END()
