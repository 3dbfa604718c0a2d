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
double heat(const HeatLedger& ledger, uint32_t extent, uint64_t now_ns) {
    return ledger.estimate(extent, now_ns).heat / 65536.0;
}

}  // namespace

BOOST_AUTO_TEST_CASE(a_waiting_time_tells_the_rate_and_the_heat_that_a_counter_would_show) {
    HeatLedger ledger;
    uint64_t now = kNsPerSecond;
    for (int i = 0; i < 20; i++) {
        ledger.expose(3, now, true);
        now += kNsPerSecond / 4;
        BOOST_TEST(ledger.touched(3, now));
        BOOST_TEST(!ledger.touched(3, now));  // seen once only
        now += kNsPerSecond;                  // not looked at in between
    }
    BOOST_TEST(heat(ledger, 3, now) == 4 * kSpanS, boost::test_tools::tolerance(0.02));
    BOOST_TEST(ledger.estimate(3, now).samples >= 15);
    BOOST_TEST(ledger.estimate(3, now).samples <= 20);
}

BOOST_AUTO_TEST_CASE(what_is_no_longer_touched_cools_while_it_is_exposed) {
    HeatLedger ledger;
    ledger.expose(0, 1 * kNsPerSecond, true);
    ledger.touched(0, 2 * kNsPerSecond);
    ledger.expose(0, 2 * kNsPerSecond, true);
    double at_first = heat(ledger, 0, 2 * kNsPerSecond);
    double later = heat(ledger, 0, 12 * kNsPerSecond);
    BOOST_TEST(later < at_first / 8);
    ledger.cover(0, 12 * kNsPerSecond);  // mapped without a touch: the time counts all the same
    BOOST_TEST(heat(ledger, 0, 12 * kNsPerSecond) == later, boost::test_tools::tolerance(0.05));
}

BOOST_AUTO_TEST_CASE(counts_decay_by_half_in_their_half_life_and_confidence_with_them) {
    HeatLedger ledger;
    for (int i = 0; i < 64; i++) ledger.count(1, 0.5, kNsPerSecond);
    BOOST_TEST(heat(ledger, 1, kNsPerSecond) == 32.0, boost::test_tools::tolerance(0.01));
    BOOST_TEST(ledger.estimate(1, kNsPerSecond).samples == 64);
    BOOST_TEST(heat(ledger, 1, kNsPerSecond + kHeatHalfLifeNs) == 16.0, boost::test_tools::tolerance(0.01));
    BOOST_TEST(ledger.estimate(1, kNsPerSecond + kHeatHalfLifeNs).samples == 32);
    BOOST_TEST(ledger.estimate(1, kNsPerSecond + 10 * kHeatHalfLifeNs).samples == 0);
}

BOOST_AUTO_TEST_CASE(heat_saturates_and_rows_that_are_forgotten_or_unknown_have_none) {
    HeatLedger ledger;
    ledger.expose(0, 5, true);
    ledger.touched(0, 5);  // no time at all
    BOOST_TEST(ledger.estimate(0, 5).heat == UINT32_MAX);
    for (int i = 0; i < 100'000; i++) ledger.count(1, 1e9, kNsPerSecond);
    BOOST_TEST(ledger.estimate(1, kNsPerSecond).heat == UINT32_MAX);
    BOOST_TEST(ledger.estimate(1, kNsPerSecond).samples == UINT16_MAX);
    ledger.forget(0, 1000);
    BOOST_TEST(ledger.estimate(1, kNsPerSecond).samples == 0);
    BOOST_TEST(ledger.estimate(4'000'000, kNsPerSecond).heat == 0u);
    BOOST_TEST(!ledger.exposed(4'000'000));
}

BOOST_AUTO_TEST_CASE(only_mapped_extents_that_are_allowed_are_chosen_and_never_more_than_the_budget) {
    HeatLedger ledger;
    HintChooser chooser;
    std::vector<tierd_extent> rows(100);
    for (uint32_t i = 0; i < 100; i++) {
        rows[i].state = i % 2 == 0 ? TIERD_EXTENT_RESIDENT : TIERD_EXTENT_ABSENT;
        rows[i].flags = i % 4 == 0 ? TIERD_EXTENT_MAPPED : 0;
    }
    ledger.expose(8, 1, true);
    auto chosen = chooser.choose(rows, ledger, 1000, [](uint32_t extent) { return extent != 12; });
    BOOST_TEST(chosen.size() == 23u);  // every fourth, without the exposed and the forbidden one
    for (uint32_t extent : chosen) BOOST_TEST((extent % 4 == 0 && extent != 8 && extent != 12));
    BOOST_TEST(chooser.choose(rows, ledger, 5, [](uint32_t) { return true; }).size() == 5u);
    BOOST_TEST(chooser.choose({}, ledger, 5, [](uint32_t) { return true; }).empty());
}

BOOST_AUTO_TEST_CASE(a_large_table_is_looked_at_a_part_each_epoch_and_all_of_it_in_turn) {
    HeatLedger ledger;
    HintChooser chooser;
    std::vector<tierd_extent> rows(3 * HintChooser::kRowsAnEpoch);
    for (auto& row : rows) row.state = TIERD_EXTENT_RESIDENT, row.flags = TIERD_EXTENT_MAPPED;
    std::vector<bool> seen(rows.size());
    for (int epoch = 0; epoch < 3; epoch++)
        for (uint32_t extent : chooser.choose(rows, ledger, rows.size(), [](uint32_t) { return true; }))
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
    HeatLedger ledger;
    HintChooser chooser;
    std::vector<tierd_extent> rows(kExtents);
    for (auto& row : rows) row.state = TIERD_EXTENT_RESIDENT, row.flags = TIERD_EXTENT_MAPPED;
    double now_s = 1, epoch_s = 1;
    while (now_s < 31) {
        now_s += gap(random);
        auto now = static_cast<uint64_t>(now_s * 1e9);
        for (; epoch_s < now_s; epoch_s += 0.1)
            for (uint32_t extent : chooser.choose(rows, ledger, kBudget, [](uint32_t) { return true; }))
                ledger.expose(extent, static_cast<uint64_t>(epoch_s * 1e9), true);
        ledger.touched(touch(random), now);
    }
    std::vector<uint32_t> order(kExtents);
    std::iota(order.begin(), order.end(), 0u);
    auto now = static_cast<uint64_t>(now_s * 1e9);
    std::ranges::sort(order, std::greater<>{},
                      [&](uint32_t extent) { return ledger.estimate(extent, now).heat; });
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
