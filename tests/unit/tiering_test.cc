#define BOOST_TEST_MODULE tiering
#include <boost/test/unit_test.hpp>

#include "lib/base/bytes.h"
#include "lib/policy/tiering.h"

using namespace tierd;

namespace {

constexpr uint64_t kNow = 1'000'000'000'000;
constexpr uint64_t kSecond = 1'000'000'000;

// A table of 2 MiB extents and three tiers; moves are carried out at once.
struct World {
    std::vector<tierd_extent> rows;
    std::vector<tierd_tier_info> tiers = std::vector<tierd_tier_info>(4);
    uint64_t now_ns = kNow;
    TierPlanner planner;
    PolicyDecisions out;

    World(uint64_t hbm, uint64_t dram, uint64_t cxl) {
        uint64_t extents[] = {0, hbm, dram, cxl};
        for (uint8_t number = 1; number < 4; number++) {
            tiers[number].capacity_bytes = extents[number] * 2 * kMiB;
            tiers[number].kind = number;
            tiers[number].rank = static_cast<uint8_t>(number - 1);
        }
    }
    ExtentId add(uint8_t tier, double touches, uint64_t age_ns = 0) {
        tierd_extent row{};
        row.state = TIERD_EXTENT_RESIDENT;
        row.bytes = 2 * kMiB;
        row.tier = tier;
        row.heat = static_cast<uint32_t>(touches * 65536);
        row.last_touch_ns = now_ns - age_ns;
        tiers[tier].used_bytes += row.bytes;
        rows.push_back(row);
        return static_cast<ExtentId>(rows.size() - 1);
    }
    std::vector<ProposedMove> plan(size_t capacity = 64) {
        out.clear();
        planner.plan({.extents = rows, .dram = {}, .now_ns = now_ns, .tiers = tiers}, out, capacity);
        return out.moves;
    }
    void carry_out() {
        for (const ProposedMove& move : plan()) {
            tiers[rows[move.extent].tier].used_bytes -= rows[move.extent].bytes;
            rows[move.extent].tier = move.tier;
            tiers[move.tier].used_bytes += rows[move.extent].bytes;
            BOOST_TEST(tiers[move.tier].used_bytes <= tiers[move.tier].capacity_bytes + 2 * kMiB);
        }
    }
};

}  // namespace

BOOST_AUTO_TEST_CASE(with_one_tier_nothing_is_proposed) {
    World world(0, 8, 0);
    for (int i = 0; i < 8; i++) world.add(2, i);
    BOOST_TEST(world.plan().empty());
    World none(0, 8, 0);
    none.tiers.clear();
    BOOST_TEST(none.plan().empty());
}

BOOST_AUTO_TEST_CASE(what_is_touched_again_goes_to_the_fastest_tier_that_has_room) {
    World world(32, 32, 32);
    ExtentId once = world.add(3, 1), hot = world.add(3, 5), old = world.add(3, 5, 60 * kSecond);
    auto moves = world.plan();
    BOOST_REQUIRE(moves.size() == 1u);
    BOOST_TEST(moves[0].extent == hot);
    BOOST_TEST(moves[0].tier == 1);
    BOOST_TEST(once != old);
}

BOOST_AUTO_TEST_CASE(in_full_tiers_a_hot_extent_changes_places_with_a_cold_one_which_goes_first) {
    World world(2, 2, 0);
    ExtentId warm = world.add(1, 4), cold = world.add(1, 1, 30 * kSecond);
    ExtentId hot = world.add(2, 9);
    world.add(2, 1);
    auto moves = world.plan();
    BOOST_REQUIRE(moves.size() == 2u);
    BOOST_TEST(moves[0].extent == cold);
    BOOST_TEST(moves[0].tier == 2);
    BOOST_TEST(moves[1].extent == hot);
    BOOST_TEST(moves[1].tier == 1);
    BOOST_TEST(warm != hot);
}

BOOST_AUTO_TEST_CASE(nearly_equal_heat_changes_nothing) {
    World world(2, 2, 0);
    for (double touches : {4.0, 4.5}) world.add(1, touches);
    for (double touches : {5.0, 6.0}) world.add(2, touches);
    BOOST_TEST(world.plan().empty());
}

BOOST_AUTO_TEST_CASE(two_equally_hot_sets_do_not_keep_changing_places) {
    World world(4, 4, 8);
    for (int i = 0; i < 4; i++) world.add(1, 3 + i % 2);
    for (int i = 0; i < 4; i++) world.add(2, 4 - i % 2);
    size_t moves = 0;
    for (int epoch = 0; epoch < 50; epoch++) {
        world.now_ns += kSecond / 10;
        // Both sets are touched in turn.
        for (size_t i = epoch % 2; i < world.rows.size(); i += 2) {
            world.rows[i].last_touch_ns = world.now_ns;
            world.rows[i].heat = 4 * 65536;
        }
        moves += world.plan().size();
        world.carry_out();
    }
    BOOST_TEST(moves <= 8u);
}

BOOST_AUTO_TEST_CASE(the_coldest_goes_down_ahead_of_pressure_while_a_slower_tier_has_room) {
    World world(32, 64, 0);
    for (int i = 0; i < 32; i++) world.add(1, 8, static_cast<uint64_t>(i) * kSecond);
    auto moves = world.plan();
    BOOST_REQUIRE(moves.size() == 2u);  // a sixteenth of the tier
    BOOST_TEST(moves[0].extent == 31u);
    BOOST_TEST(moves[0].tier == 2);
    World full(32, 2, 0);
    for (int i = 0; i < 32; i++) full.add(1, 8, static_cast<uint64_t>(i) * kSecond);
    for (int i = 0; i < 2; i++) full.add(2, 8, 60 * kSecond);
    BOOST_TEST(full.plan().empty());
}

BOOST_AUTO_TEST_CASE(pinned_extents_may_go_up_but_never_make_room) {
    World world(1, 1, 0);
    world.rows.reserve(2);
    world.rows[world.add(1, 1, 60 * kSecond)].flags = TIERD_EXTENT_PINNED;
    world.rows[world.add(2, 9)].flags = TIERD_EXTENT_PINNED;
    BOOST_TEST(world.plan().empty());
}

BOOST_AUTO_TEST_CASE(a_tier_that_is_being_emptied_gets_nothing_and_is_not_planned_with) {
    World world(32, 32, 32);
    world.tiers[1].draining = 1;
    world.add(3, 9);
    auto moves = world.plan();
    BOOST_REQUIRE(moves.size() == 1u);
    BOOST_TEST(moves[0].tier == 2);
}

BOOST_AUTO_TEST_CASE(a_large_table_is_looked_at_in_slices_and_proposals_are_bounded) {
    World world(4096, 4096, 300'000);
    for (int i = 0; i < 300'000; i++) world.add(3, i == 290'000 ? 9 : 0, 600 * kSecond);
    world.rows[290'000].last_touch_ns = kNow;
    size_t proposed = 0;
    for (int epoch = 0; epoch < 3; epoch++) proposed += world.plan(16).size();
    BOOST_TEST(proposed == 1u);
    for (tierd_extent& row : world.rows) row.heat = 9 * 65536, row.last_touch_ns = kNow;
    BOOST_TEST(world.plan(16).size() <= 17u);
}
