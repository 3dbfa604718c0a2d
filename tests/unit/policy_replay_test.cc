// The replayer: what its measures, its machine and its tiers file promise. Needs no BPF.
#define BOOST_TEST_MODULE replay
#include <boost/test/unit_test.hpp>

#include "lib/base/bytes.h"
#include "lib/replay/chart.h"
#include "lib/replay/replay.h"

using namespace tierd;
using Kind = TraceEventKind;

namespace {

constexpr uint32_t kExtentBytes = 2 * kMiB;

// One model of so many equal extents, touched in this order, a millisecond apart.
Trace touches_of(uint32_t extents, const std::vector<uint32_t>& touches) {
    Trace trace;
    trace.complete = true;
    TraceModel model;
    model.name = "a.gguf";
    model.runs = {{extents, kExtentBytes}};
    trace.models = {model};
    trace.events.push_back({0, 0, 0, Kind::open});
    uint64_t now_ns = 0;
    for (uint32_t index : touches) trace.events.push_back({now_ns += kNsPerMs, 0, index, Kind::minor});
    return trace;
}

Trace passes(uint32_t extents, uint32_t count) {
    std::vector<uint32_t> touches;
    for (uint32_t i = 0; i < extents * count; i++) touches.push_back(i % extents);
    return touches_of(extents, touches);
}

ReplayTiers room_for(uint32_t extents) {
    return plain_tiers(uint64_t{extents} * kExtentBytes);
}

std::string refusal(std::string_view toml) {
    auto tiers = parse_tiers(toml, "t.toml", 100 * kMiB);
    return tiers ? "" : tiers.error().text();
}

}  // namespace

BOOST_AUTO_TEST_CASE(a_cycle_larger_than_memory_defeats_lru_and_not_the_optimum) {
    Trace trace = passes(10, 100);
    auto workload = make_workload(trace);
    auto lru = replay_reference(*workload, room_for(8), Reference::lru);
    auto belady = replay_reference(*workload, room_for(8), Reference::belady);
    BOOST_TEST(lru->all.found == 0u);
    // Of each pass's ten, the optimum misses 10 - 7 - 1 in the long run: one place is always passing through.
    BOOST_TEST(belady->all.hit_ratio() > 0.75);
    BOOST_TEST(belady->all.hit_ratio() < 0.80);
}

BOOST_AUTO_TEST_CASE(the_optimum_keeps_what_is_wanted_soonest) {
    Trace trace = touches_of(3, {0, 1, 2, 0, 1, 0, 1, 2});
    auto workload = make_workload(trace);
    auto belady = replay_reference(*workload, room_for(2), Reference::belady);
    // 0 and 1 are read, 2 has to take a place (1's, whose next touch is later than 0's), 1 takes it back, then 2.
    BOOST_TEST(belady->all.reads == 5u);
}

BOOST_AUTO_TEST_CASE(what_fits_is_read_once) {
    Trace trace = passes(10, 5);
    auto workload = make_workload(trace);
    for (const char* name : {"lru", "sweep", "auto"}) {
        auto result = replay_builtin(*workload, room_for(10), name);
        BOOST_TEST(result->all.reads == 10u);
        BOOST_TEST(result->evictions == 0u);
    }
}

BOOST_AUTO_TEST_CASE(a_replay_gives_the_same_twice) {
    Trace trace = passes(40, 20);
    auto workload = make_workload(trace);
    auto one = replay_builtin(*workload, room_for(20), "auto");
    auto other = replay_builtin(*workload, room_for(20), "auto");
    BOOST_TEST(one->total_ns == other->total_ns);
    BOOST_TEST(one->bytes_read == other->bytes_read);
    BOOST_TEST(one->all.stall_ns == other->all.stall_ns);
}

BOOST_AUTO_TEST_CASE(time_is_computing_and_waiting) {
    Trace trace = passes(4, 2);
    auto workload = make_workload(trace);
    ReplayTiers tiers = room_for(4);
    tiers.disk = {.bandwidth_bytes_per_s = 2 * kMiB * 1000, .latency_ns = 500'000, .depth = 16};
    auto result = replay_reference(*workload, tiers, Reference::lru);
    // Four reads of a millisecond and a half; eight times a millisecond of computing.
    BOOST_TEST(result->all.stall_ns == 6'000'000u);
    BOOST_TEST(result->total_ns == 14'000'000u);
}

BOOST_AUTO_TEST_CASE(waiting_that_was_recorded_is_not_taken_for_computing) {
    Trace trace = touches_of(2, {});
    trace.events.push_back({10 * kNsPerMs, 0, 0, Kind::missing});
    trace.events.push_back({30 * kNsPerMs, 0, 0, Kind::filled});
    trace.events.push_back({31 * kNsPerMs, 0, 1, Kind::missing});
    auto workload = make_workload(trace);
    BOOST_TEST(workload->readers[0].touches[1].think_ns == kNsPerMs);
}

namespace {

// What tierd records of passes over eight extents when it holds the first `held` of them and streams the others, each touch a
// millisecond after the one before.
Trace recorded_passes(uint32_t held, uint32_t passes, uint16_t expert = TIERD_NO_EXPERT) {
    Trace trace = touches_of(8, {});
    trace.complete = false;
    trace.models[0].runs = {{held, kExtentBytes, 0, expert}, {8 - held, kExtentBytes}};
    uint64_t now_ns = 0;
    for (uint32_t pass = 0; pass < passes; pass++) {
        for (uint32_t index = 0; index < 8; index++) {
            now_ns += kNsPerMs;
            if (index < held && pass > 0) continue;
            trace.events.push_back({now_ns, 0, index, Kind::missing});
            trace.events.push_back({now_ns, 0, index, Kind::filled});
            if (index >= held) trace.events.push_back({now_ns, 0, index, Kind::evicted});
        }
    }
    trace.events.push_back({now_ns, 0, 0, Kind::end});
    return trace;
}

}  // namespace

BOOST_AUTO_TEST_CASE(touches_of_what_a_recording_held_are_filled_in_from_its_passes) {
    Trace trace = recorded_passes(3, 5);
    Workload workload = *make_workload(trace);
    BOOST_TEST(workload.cant_tell == "");
    BOOST_TEST(workload.unseen == 4 * 3u);
    BOOST_REQUIRE(workload.order.size() == 5 * 8u);
    for (uint32_t i = 0; i < workload.order.size(); i++) BOOST_TEST(workload.order[i] == i % 8);
    // The computing between two touches that were seen is that of all between them.
    uint64_t think_ns = 0;
    for (const WorkloadTouch& touch : workload.readers[0].touches) think_ns += touch.think_ns;
    BOOST_TEST(think_ns == 5 * 8 * kNsPerMs);
}

BOOST_AUTO_TEST_CASE(what_was_evicted_or_armed_is_seen_and_not_filled_in) {
    Trace trace = recorded_passes(3, 2);
    // Extent 1 is armed behind its touch, and so is seen in the second pass.
    trace.events.insert(trace.events.begin() + 5, {2 * kNsPerMs, 0, 1, Kind::armed});
    BOOST_TEST(make_workload(trace)->unseen == 2u);
}

BOOST_AUTO_TEST_CASE(what_was_mapped_ahead_of_its_touch_is_filled_in_from_then_on) {
    Trace trace = recorded_passes(3, 1);
    trace.events.pop_back();
    for (uint32_t index : {5u, 7u}) {  // the second pass shows these alone; 6 is mapped, 0 to 2 are held
        trace.events.push_back({(10 + index) * kNsPerMs, 0, index == 5 ? 6u : 4u, Kind::filled});
        trace.events.push_back({(10 + index) * kNsPerMs, 0, index == 5 ? 6u : 4u, Kind::mapped});
        trace.events.push_back({(10 + index) * kNsPerMs, 0, index, Kind::missing});
    }
    Workload workload = *make_workload(trace);
    std::vector<uint32_t> second(workload.order.begin() + 8, workload.order.end());
    BOOST_TEST(second == (std::vector<uint32_t>{0, 1, 2, 5, 6, 7}), boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(a_recording_that_shows_too_little_says_that_it_can_not_tell) {
    // All of it fitted: after the first pass nothing was seen.
    Trace fits = recorded_passes(8, 1);
    fits.events.back().time_ns = 100 * kNsPerMs;
    BOOST_TEST(make_workload(fits)->cant_tell.find("a.gguf: it was mapped") == 0u);
    // Experts were held: which of them were touched is not known.
    Trace experts = recorded_passes(3, 5, 1);
    BOOST_TEST(make_workload(experts)->cant_tell.find("experts") != std::string::npos);
    // Touches in no order, beside something that is held.
    Trace chance = recorded_passes(1, 1);
    uint64_t now_ns = 8 * kNsPerMs;
    for (uint32_t index : {5u, 2u, 7u, 4u, 6u, 3u, 1u, 6u, 4u, 2u, 7u, 5u, 3u}) {
        chance.events.insert(chance.events.end() - 1, {now_ns += kNsPerMs, 0, index, Kind::missing});
        chance.events.insert(chance.events.end() - 1, {now_ns, 0, index, Kind::evicted});
    }
    chance.events.back().time_ns = now_ns;
    BOOST_TEST(make_workload(chance)->cant_tell.find("no order") != std::string::npos);
    // A complete one has nothing to be filled in.
    fits.complete = true;
    BOOST_TEST(make_workload(fits)->cant_tell == "");
}

BOOST_AUTO_TEST_CASE(readers_of_two_models_wait_for_themselves_alone) {
    Trace trace = passes(2, 1);
    trace.models.push_back(trace.models[0]);
    trace.models[1].name = "b.gguf";
    trace.events.insert(trace.events.begin() + 1, {0, 1, 1, Kind::open});
    trace.events.push_back({5 * kNsPerMs, 1, 0, Kind::minor});
    auto workload = make_workload(trace);
    BOOST_REQUIRE(workload->models.size() == 2u);
    auto result = replay_reference(*workload, room_for(4), Reference::lru);
    BOOST_TEST(result->models[0].counts.touches == 2u);
    BOOST_TEST(result->models[1].counts.touches == 1u);
}

BOOST_AUTO_TEST_CASE(a_model_that_is_opened_again_finds_what_it_left) {
    Trace trace = touches_of(2, {0, 1});
    trace.events.push_back({3 * kNsPerMs, 0, 0, Kind::close});
    trace.models.push_back(trace.models[0]);
    trace.events.push_back({50 * kNsPerMs, 7, 1, Kind::open});
    trace.events.push_back({51 * kNsPerMs, 7, 0, Kind::minor});
    auto workload = make_workload(trace);
    BOOST_TEST(workload->extents == 2u);
    auto result = replay_builtin(*workload, room_for(2), "lru");
    BOOST_TEST(result->all.reads == 2u);
    BOOST_TEST(result->all.touches == 3u);
}

BOOST_AUTO_TEST_CASE(an_extent_larger_than_every_tier_is_refused) {
    Trace trace = passes(2, 1);
    auto workload = make_workload(trace);
    BOOST_TEST(!replay_reference(*workload, plain_tiers(kMiB), Reference::lru));
}

BOOST_AUTO_TEST_CASE(tiers_are_read_and_ranked_by_latency) {
    auto tiers = parse_tiers(
        "[[tier]]\nkind = \"cxl\"\ncapacity = \"1GiB\"\nlatency_ns = 250\n"
        "[[tier]]\nkind = \"dram\"\ncapacity = \"50%\"\nlatency_ns = 90\nbandwidth_per_s = \"20GiB\"\n"
        "[disk]\ndepth = 4\n[engine]\nepoch_ms = 50\n",
        "t.toml", 100 * kMiB);
    BOOST_REQUIRE(tiers);
    BOOST_TEST(tiers->tiers[0].rank == 1);
    BOOST_TEST(tiers->tiers[1].rank == 0);
    BOOST_TEST(tiers->tiers[1].capacity_bytes == 50 * kMiB);
    BOOST_TEST(tiers->disk.depth == 4u);
    BOOST_TEST(tiers->epoch_ns == 50 * kNsPerMs);
}

BOOST_AUTO_TEST_CASE(a_wrong_tiers_file_is_refused_where_it_is_wrong) {
    BOOST_TEST(refusal("[disk]\ndepth = 4\n").find("no memory tier") != std::string::npos);
    BOOST_TEST(refusal("[[tier]]\nkind = \"dram\"\n").find("t.toml:1:1: a tier without capacity") !=
               std::string::npos);
    BOOST_TEST(refusal("[[tier]]\ncapacity = \"much\"\n").find("t.toml:2:12") != std::string::npos);
    BOOST_TEST(refusal("[[tier]]\ncapacity = \"1GiB\"\nspeed = 4\n").find("unknown key speed") !=
               std::string::npos);
    BOOST_TEST(refusal("[[tier]\n").find("t.toml:1") != std::string::npos);
    BOOST_TEST(refusal("tier = 4\n").find("what is tier") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(a_chart_shows_each_curve_and_where_they_meet) {
    Chart chart{"Title", "memory", {"50 %", "100 %"}, {{"ours", {0, 1}}, {"peer <1>", {0.5, 1}}}};
    std::string text = draw_text(chart);
    BOOST_TEST(text.find('o') != std::string::npos);
    BOOST_TEST(text.find('*') != std::string::npos);
    std::string svg = draw_svg(chart);
    BOOST_TEST(svg.find("<polyline") != std::string::npos);
    BOOST_TEST(svg.find("peer <1>") == std::string::npos);  // a name is text, never markup
}
