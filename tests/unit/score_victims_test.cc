// Who goes first when a policy says what each extent is worth.
#define BOOST_TEST_MODULE score_victims
#include "lib/policy/score_victims.h"

#include <boost/test/unit_test.hpp>

using namespace tierd;

namespace {

constexpr uint32_t kBytes = 2u << 20;
using Ids = std::vector<ExtentId>;

// Rows that are all resident, worth their number, touched in the order of their numbers.
struct Scene {
    explicit Scene(uint32_t count = 8) : rows(count), ctxs(count) {
        for (uint32_t i = 0; i < count; i++) {
            rows[i].state = TIERD_EXTENT_RESIDENT;
            rows[i].bytes = kBytes;
            rows[i].last_touch_ns = i;
            ctxs[i].score = i;
        }
    }
    Ids name(uint32_t count, uint64_t below, bool for_demand) {
        Ids out;
        victims.name({.extents = rows, .now_ns = now_ns}, ctxs, {uint64_t{count} * kBytes, below, for_demand},
                     out);
        return out;
    }
    Ids for_demand(uint32_t count) { return name(count, 0, true); }

    std::vector<tierd_extent> rows;
    std::vector<tierd_extent_ctx> ctxs;
    uint64_t now_ns = 1;
    ScoreVictims victims;
};

}  // namespace

BOOST_AUTO_TEST_CASE(the_least_worth_goes_first_and_of_equals_the_longest_untouched) {
    Scene scene;
    for (uint32_t i : {2u, 5u, 6u}) scene.ctxs[i].score = 0;
    scene.rows[0].last_touch_ns = 100;
    BOOST_TEST((scene.for_demand(5) == Ids{2, 5, 6, 0, 1}));
}

BOOST_AUTO_TEST_CASE(read_ahead_takes_only_what_is_worth_less) {
    Scene scene;
    BOOST_TEST((scene.name(8, 3, false) == Ids{0, 1, 2}));
    BOOST_TEST(scene.name(8, 0, false).empty());
}

BOOST_AUTO_TEST_CASE(what_is_pinned_or_not_resident_or_was_touched_since_is_never_named) {
    Scene scene;
    BOOST_TEST((scene.for_demand(1) == Ids{0}));
    scene.rows[0].state = TIERD_EXTENT_EVICTING;
    scene.rows[1].flags = TIERD_EXTENT_PINNED;
    scene.rows[2].state = TIERD_EXTENT_ABSENT;
    scene.ctxs[3].score = 100;
    BOOST_TEST((scene.name(2, TIERD_HOLD, false) == Ids{4, 5}));
}

BOOST_AUTO_TEST_CASE(what_is_held_goes_only_when_demand_finds_nothing_else) {
    Scene scene;
    scene.ctxs[0].score = scene.ctxs[1].score = TIERD_HOLD;
    BOOST_TEST((scene.name(8, TIERD_HOLD, false) == Ids{2, 3, 4, 5, 6, 7}));
    for (uint32_t i = 2; i < 8; i++) scene.ctxs[i].score = 50 + i;  // touched since the table was looked at
    BOOST_TEST((scene.for_demand(6) == Ids{2, 3, 4, 5, 6, 7}));
    BOOST_TEST((scene.for_demand(7) == Ids{2, 3, 4, 5, 6, 7, 0}));
}

BOOST_AUTO_TEST_CASE(nothing_is_named_twice_in_one_answer) {
    Scene scene(20);
    Ids out = scene.for_demand(40);
    BOOST_TEST(out.size() == 20u);
    std::sort(out.begin(), out.end());
    BOOST_TEST((std::adjacent_find(out.begin(), out.end()) == out.end()));
}

BOOST_AUTO_TEST_CASE(a_large_table_is_looked_at_once_for_many_victims) {
    Scene scene(100'000);
    Ids first = scene.for_demand(1);
    BOOST_TEST((first == Ids{0}));
    scene.ctxs[99'999].score = 0;  // found by the next look, not by this batch
    BOOST_TEST((scene.for_demand(1) == Ids{1}));
    scene.now_ns += 1'000'000'000;
    BOOST_TEST((scene.for_demand(2) == Ids{0, 99'999}));
}
