#define BOOST_TEST_MODULE heat
#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <numeric>
#include <random>

#include "lib/base/clock.h"
#include "lib/sample/heat.h"
#include "lib/sample/hints.h"

namespace tierd {

namespace {

constexpr double kSpanS = 10 / 0.693147;
constexpr uint32_t kExtentBytes = 2u << 20;
double heat(const HeatEstimator& estimator, uint32_t extent, uint64_t now_ns) {
    return estimator.estimate(extent, now_ns).heat / 65536.0;
}

}  // namespace

BOOST_AUTO_TEST_CASE(a_waiting_time_tells_the_rate_and_the_heat_that_a_counter_would_show) {
    HeatEstimator estimator;
    uint64_t now = kNsPerSecond;
    for (int i = 0; i < 20; i++) {
        estimator.arm(3, now, true);
        now += kNsPerSecond / 4;
        BOOST_TEST(estimator.touched(3, now));
        BOOST_TEST(!estimator.touched(3, now));  // seen once only
        now += kNsPerSecond;                     // not looked at in between
    }
    BOOST_TEST(heat(estimator, 3, now) == 4 * kSpanS, boost::test_tools::tolerance(0.02));
    BOOST_TEST(estimator.estimate(3, now).samples >= 15);
    BOOST_TEST(estimator.estimate(3, now).samples <= 20);
}

BOOST_AUTO_TEST_CASE(what_is_no_longer_touched_cools_while_it_is_exposed) {
    HeatEstimator estimator;
    estimator.arm(0, 1 * kNsPerSecond, true);
    estimator.touched(0, 2 * kNsPerSecond);
    estimator.arm(0, 2 * kNsPerSecond, true);
    double at_first = heat(estimator, 0, 2 * kNsPerSecond);
    double later = heat(estimator, 0, 12 * kNsPerSecond);
    BOOST_TEST(later < at_first / 8);
    estimator.disarm(0, 12 * kNsPerSecond);  // mapped without a touch: the time counts all the same
    BOOST_TEST(heat(estimator, 0, 12 * kNsPerSecond) == later, boost::test_tools::tolerance(0.05));
}

BOOST_AUTO_TEST_CASE(counts_decay_by_half_in_their_half_life_and_confidence_with_them) {
    HeatEstimator estimator;
    for (int i = 0; i < 64; i++) estimator.count(1, 0.5, kNsPerSecond);
    BOOST_TEST(heat(estimator, 1, kNsPerSecond) == 32.0, boost::test_tools::tolerance(0.01));
    BOOST_TEST(estimator.estimate(1, kNsPerSecond).samples == 64);
    BOOST_TEST(heat(estimator, 1, kNsPerSecond + kHeatHalfLifeNs) == 16.0,
               boost::test_tools::tolerance(0.01));
    BOOST_TEST(estimator.estimate(1, kNsPerSecond + kHeatHalfLifeNs).samples == 32);
    BOOST_TEST(estimator.estimate(1, kNsPerSecond + 10 * kHeatHalfLifeNs).samples == 0);
}

BOOST_AUTO_TEST_CASE(heat_saturates_and_rows_that_are_forgotten_or_unknown_have_none) {
    HeatEstimator estimator;
    estimator.arm(0, 5, true);
    estimator.touched(0, 5);  // no time at all
    BOOST_TEST(estimator.estimate(0, 5).heat == UINT32_MAX);
    for (int i = 0; i < 100'000; i++) estimator.count(1, 1e9, kNsPerSecond);
    BOOST_TEST(estimator.estimate(1, kNsPerSecond).heat == UINT32_MAX);
    BOOST_TEST(estimator.estimate(1, kNsPerSecond).samples == UINT16_MAX);
    estimator.forget(0, 1000);
    BOOST_TEST(estimator.estimate(1, kNsPerSecond).samples == 0);
    BOOST_TEST(estimator.estimate(4'000'000, kNsPerSecond).heat == 0u);
    BOOST_TEST(!estimator.armed(4'000'000));
}

BOOST_AUTO_TEST_CASE(only_mapped_extents_that_are_allowed_are_chosen_and_never_more_than_the_budget) {
    HeatEstimator estimator;
    HintChooser chooser;
    std::vector<tierd_extent> rows(100);
    for (uint32_t i = 0; i < 100; i++) {
        rows[i].state = i % 2 == 0 ? TIERD_EXTENT_RESIDENT : TIERD_EXTENT_ABSENT;
        rows[i].flags = i % 4 == 0 ? TIERD_EXTENT_MAPPED : 0;
        rows[i].bytes = kExtentBytes;
    }
    estimator.arm(8, 1, true);
    auto chosen = chooser.choose(rows, estimator, 1000, [](uint32_t extent) { return extent != 12; });
    BOOST_TEST(chosen.size() == 23u);  // every fourth, without the exposed and the forbidden one
    for (uint32_t extent : chosen) BOOST_TEST((extent % 4 == 0 && extent != 8 && extent != 12));
    BOOST_TEST(chooser.choose(rows, estimator, 5, [](uint32_t) { return true; }).size() == 5u);
    BOOST_TEST(chooser.choose({}, estimator, 5, [](uint32_t) { return true; }).empty());
}

BOOST_AUTO_TEST_CASE(a_large_table_is_looked_at_a_part_each_epoch_and_all_of_it_in_turn) {
    HeatEstimator estimator;
    HintChooser chooser;
    std::vector<tierd_extent> rows(3 * HintChooser::kRowsAnEpoch);
    for (auto& row : rows)
        row.state = TIERD_EXTENT_RESIDENT, row.flags = TIERD_EXTENT_MAPPED, row.bytes = kExtentBytes;
    std::vector<bool> seen(rows.size());
    for (int epoch = 0; epoch < 3; epoch++)
        for (uint32_t extent : chooser.choose(rows, estimator, rows.size(), [](uint32_t) { return true; }))
            seen[extent] = true;
    BOOST_TEST(std::ranges::count(seen, true) == static_cast<std::ptrdiff_t>(rows.size()));
}

BOOST_AUTO_TEST_CASE(the_budget_follows_the_measured_cost) {
    HintBudget budget(0.01);
    // Each hint costs 25 µs: 40 of them in 100 ms are 1 %.
    auto run = [&](uint64_t cost_ns) {
        for (int epoch = 0; epoch < 300; epoch++) {
            budget.spent(budget.budget() * cost_ns);
            budget.end_epoch(100 * kNsPerMs, budget.budget());
        }
        return budget.budget();
    };
    BOOST_TEST(run(25'000) >= 35u);
    BOOST_TEST(budget.budget() <= 44u);
    BOOST_TEST(budget.cost_share() == 0.01, boost::test_tools::tolerance(0.15));
    BOOST_TEST(run(100'000) <= 11u);
    BOOST_TEST(run(1'000) == 128u);  // never more than so many
    BOOST_TEST(run(100'000'000) == 2u);
    // Hints that nobody takes don't grow the budget.
    HintBudget idle(0.01);
    size_t before = idle.budget();
    for (int epoch = 0; epoch < 100; epoch++) idle.end_epoch(100 * kNsPerMs, 0);
    BOOST_TEST(idle.budget() == before);
}

BOOST_AUTO_TEST_CASE(the_budget_falls_when_readers_wait_long_for_hints) {
    HintBudget budget(0.01);
    for (int epoch = 0; epoch < 300; epoch++) {
        budget.spent(budget.budget() * 20'000);
        budget.waited(budget.budget() * 400'000);  // on a busy machine each wake-up takes its time
        budget.end_epoch(100 * kNsPerMs, budget.budget());
    }
    BOOST_TEST(budget.wait_share() <= 0.025);
    BOOST_TEST(budget.budget() >= 4u);
    BOOST_TEST(budget.budget() <= 6u);
}

BOOST_AUTO_TEST_CASE(a_pause_teaches_the_budget_nothing) {
    HintBudget budget(0.01);
    double most = 0;
    auto run = [&](int epochs, bool reads) {
        for (int epoch = 0; epoch < epochs; epoch++) {
            size_t hints = reads ? budget.budget() : 0;
            budget.spent(hints * 50'000);
            budget.end_epoch(100 * kNsPerMs, hints);
            most = std::max(most, static_cast<double>(hints) * 50'000 / (100 * kNsPerMs));
        }
    };
    run(100, true);
    size_t settled = budget.budget();
    most = 0;
    for (int turn = 0; turn < 20; turn++) {
        run(7, false);
        run(7, true);
        BOOST_TEST(budget.budget() >= settled - 1);
        BOOST_TEST(budget.budget() <= settled + 1);
    }
    BOOST_TEST(most <= 0.0106);  // one hint more
}

BOOST_AUTO_TEST_CASE(what_a_touch_costs_its_thread_unseen_counts_as_waiting) {
    HintBudget budget(0.01);
    for (int epoch = 0; epoch < 300; epoch++) {
        for (size_t hint = 0; hint < budget.budget(); hint++) budget.touched();
        budget.end_epoch(100 * kNsPerMs, budget.budget());
    }
    constexpr double kMost = HintBudget::kMostLossShare * 100 * kNsPerMs / HintBudget::kUnseenNs;
    BOOST_TEST(budget.budget() <= kMost);
    BOOST_TEST(budget.budget() >= kMost - 2);
}

BOOST_AUTO_TEST_CASE(tiers_meet_where_their_capacities_end) {
    TierBoundaries boundaries;
    // 100 extents, the one with number i touched i times a second; room for 20 in the first tier, 30 more in the second.
    auto pass = [&](std::vector<uint64_t> extents) {
        for (int i = 1; i <= 100; i++) boundaries.add(static_cast<float>(i), kExtentBytes);
        for (uint64_t& capacity : extents) capacity *= kExtentBytes;
        boundaries.finish(extents);
        return boundaries.rates_per_s();
    };
    auto rates = pass({20, 30, 100});
    BOOST_REQUIRE(rates.size() == 2u);
    BOOST_TEST(rates[0] == 80.0F, boost::test_tools::tolerance(0.2F));
    BOOST_TEST(rates[1] == 50.0F, boost::test_tools::tolerance(0.2F));
    BOOST_TEST(pass({0}).size() == 1u);
    // All fits: the hottest tenth is what a tier to come would take first.
    for (const std::vector<uint64_t>& roomy : {std::vector<uint64_t>{100}, std::vector<uint64_t>{}}) {
        rates = pass(roomy);
        BOOST_REQUIRE(rates.size() == 1u);
        BOOST_TEST(rates[0] == 90.0F, boost::test_tools::tolerance(0.2F));
    }
    rates = pass({20});
    BOOST_REQUIRE(rates.size() == 1u);
    auto weight = [&](float rate, float observations) { return boundaries.weight({rate, observations}); };
    BOOST_TEST(weight(80, 20) > 3);
    BOOST_TEST(weight(10, 20) < 1.01F);
    BOOST_TEST(weight(40, 1) > weight(40, 20));  // known so little that it may be beyond the boundary
}

BOOST_AUTO_TEST_CASE(of_two_extents_the_one_is_chosen_that_would_cost_more_in_the_wrong_tier) {
    HeatEstimator estimator;
    std::vector<tierd_extent> rows(4);
    for (auto& row : rows)
        row.state = TIERD_EXTENT_RESIDENT, row.flags = TIERD_EXTENT_MAPPED, row.bytes = kExtentBytes;
    rows[3].bytes = kExtentBytes / 8;
    // All equally well known. The last is as the one before it, only smaller.
    const uint64_t gaps_ns[] = {kNsPerSecond / 100, kNsPerSecond / 30, kNsPerSecond / 20, kNsPerSecond / 20};
    for (int i = 0; i < 20; i++)
        for (uint32_t extent = 0; extent < 4; extent++) {
            estimator.arm(extent, kNsPerSecond, true);
            estimator.touched(extent, kNsPerSecond + gaps_ns[extent]);
        }
    auto order = [&](std::vector<uint64_t> capacities) {
        HintChooser chooser;
        chooser.see_tiers(std::move(capacities));
        (void)chooser.choose(rows, estimator, 4,
                             [](uint32_t) { return true; });  // a pass, to see where tiers meet
        std::vector<uint32_t> by_score;                       // who joins when one more may
        for (size_t budget = 1; budget <= 4; budget++)
            for (uint32_t extent : chooser.choose(rows, estimator, budget, [](uint32_t) { return true; }))
                if (std::ranges::count(by_score, extent) == 0) by_score.push_back(extent);
        return by_score;
    };
    // Without a boundary nearby what is touched most, and of equals the larger.
    BOOST_TEST((order({}) == std::vector<uint32_t>{0, 1, 2, 3}));
    BOOST_TEST((order({10 * kExtentBytes}) == std::vector<uint32_t>{0, 1, 2, 3}));
    // Two fit into the fastest tier: which, is to be known of 1 and 2, while 0 is there for certain.
    auto near_boundary = order({2 * kExtentBytes, 10 * kExtentBytes});
    BOOST_TEST((near_boundary[0] == 2u && near_boundary[1] == 1u && near_boundary[2] == 0u));
}

BOOST_AUTO_TEST_CASE(the_hottest_of_an_epoch_is_exposed_last) {
    HeatEstimator estimator;
    std::vector<tierd_extent> rows(4);
    for (auto& row : rows)
        row.state = TIERD_EXTENT_RESIDENT, row.flags = TIERD_EXTENT_MAPPED, row.bytes = kExtentBytes;
    for (uint32_t extent = 0; extent < 4; extent++) {
        estimator.arm(extent, kNsPerSecond, true);
        estimator.touched(extent, kNsPerSecond + kNsPerSecond / (extent == 2 ? 1000 : extent + 1));
    }
    HintChooser chooser;
    auto chosen = chooser.choose(rows, estimator, 4, [](uint32_t) { return true; });
    BOOST_TEST((std::vector<uint32_t>(chosen.begin(), chosen.end()) == std::vector<uint32_t>{0, 1, 3, 2}));
}

BOOST_AUTO_TEST_CASE(an_extent_is_near_the_node_whose_threads_read_it_more_than_all_others) {
    HeatEstimator estimator;
    uint64_t now = kNsPerSecond;
    BOOST_TEST(estimator.reader_node(4) == kNoNode);
    for (int i = 0; i < 100; i++)
        estimator.read_from(4, i % 5 < 3 ? 1 : i % 5 - 3, 1, now);  // 60 of 100 from node 1
    BOOST_TEST(estimator.reader_node(4) == 1);
    BOOST_TEST(estimator.reader_node(3) == kNoNode);
    estimator.read_from(5, kNoNode, 10, now);
    BOOST_TEST(estimator.reader_node(5) == kNoNode);
    // Its threads move: two half lives later a few accesses outweigh the old ones.
    now += 2 * kHeatHalfLifeNs;
    for (int i = 0; i < 20; i++) estimator.read_from(4, 0, 1, now);
    BOOST_TEST(estimator.reader_node(4) == 0);
    estimator.forget(4, 1);
    BOOST_TEST(estimator.reader_node(4) == kNoNode);
}

// The whole estimator against a reader that touches extents by Zipf's law, in modelled time.
BOOST_AUTO_TEST_CASE(hints_rank_a_zipf_workload_within_thirty_seconds) {
    constexpr uint32_t kExtents = 256, kBudget = 35;
    constexpr double kTouchesPerS = 3000;
    std::mt19937 random(11);
    std::vector<double> weight(kExtents);
    std::vector<uint32_t> rank(kExtents);
    std::iota(rank.begin(), rank.end(), 0u);
    std::ranges::shuffle(rank, random);
    for (uint32_t i = 0; i < kExtents; i++) weight[i] = 1.0 / (rank[i] + 1);
    std::discrete_distribution<uint32_t> touch(weight.begin(), weight.end());
    std::exponential_distribution<double> gap(kTouchesPerS);
    HeatEstimator estimator;
    HintChooser chooser;
    std::vector<tierd_extent> rows(kExtents);
    for (auto& row : rows)
        row.state = TIERD_EXTENT_RESIDENT, row.flags = TIERD_EXTENT_MAPPED, row.bytes = kExtentBytes;
    double now_s = 1, epoch_s = 1;
    while (now_s < 31) {
        now_s += gap(random);
        auto now = static_cast<uint64_t>(now_s * 1e9);
        for (; epoch_s < now_s; epoch_s += 0.1)
            for (uint32_t extent : chooser.choose(rows, estimator, kBudget, [](uint32_t) { return true; }))
                estimator.arm(extent, static_cast<uint64_t>(epoch_s * 1e9), true);
        estimator.touched(touch(random), now);
    }
    std::vector<uint32_t> order(kExtents);
    std::iota(order.begin(), order.end(), 0u);
    auto now = static_cast<uint64_t>(now_s * 1e9);
    std::ranges::sort(order, std::greater<>{},
                      [&](uint32_t extent) { return estimator.estimate(extent, now).heat; });
    double squares = 0;
    int found = 0;
    for (uint32_t place = 0; place < kExtents; place++) {
        squares += std::pow(double(place) - rank[order[place]], 2);
        found += place < kExtents / 10 && rank[order[place]] < kExtents / 10;
    }
    double spearman = 1 - 6 * squares / (double(kExtents) * (double(kExtents) * kExtents - 1));
    BOOST_TEST_MESSAGE("spearman " << spearman << ", found " << found << " of " << kExtents / 10);
    BOOST_TEST(spearman >= 0.9);
    BOOST_TEST(found >= 23);
}

}  // namespace tierd
