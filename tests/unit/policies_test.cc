// Each policy that ships, on the trace that shows what it is for, beside what it must be better than. Needs BPF.
#define BOOST_TEST_MODULE policies
#include <boost/test/unit_test.hpp>
#include <cstdlib>
#include <iostream>

#include "lib/base/bytes.h"
#include "lib/replay/replay.h"
#include "lib/trace/trace_reader.h"

using namespace tierd;

namespace {

std::string build_folder() {
    const char* folder = std::getenv("TIERD_BUILD_DIR");
    return folder == nullptr ? "build" : folder;
}

struct NeedsBpf {
    NeedsBpf() {
        if (auto usable = bpf_usable(); !usable) {
            std::cout << "skipped: " << usable.error().text() << "\n";
            std::exit(77);
        }
    }
};
BOOST_TEST_GLOBAL_FIXTURE(NeedsBpf);

// A trace and what it is played on.
struct Stage {
    Trace trace;
    Workload workload;
    ReplayTiers tiers;

    explicit Stage(const std::string& name)
        : trace(*read_trace(build_folder() + "/traces/" + name + ".trace")) {
        workload = *make_workload(trace);
        tiers = plain_tiers(workload.bytes / 2);
    }
    ReplayResult play(const std::string& policy, std::vector<Knob> knobs = {}) const {
        auto object = read_object(build_folder() + "/policies/" + policy + ".bpf.o");
        if (!object) BOOST_FAIL(object.error().text());
        auto result = replay_policy(workload, tiers, *object, knobs);
        if (!result) BOOST_FAIL(result.error().text());
        BOOST_TEST(result->faults == 0u);
        BOOST_TEST(result->all.touches == workload.order.size());
        return *result;
    }
    ReplayResult measure(Reference which) const { return *replay_reference(workload, tiers, which); }
};

uint64_t stall_of(const ReplayResult& result, const std::string& model) {
    for (const ModelResult& one : result.models)
        if (one.name == model) return one.counts.stall_ns;
    return UINT64_MAX;
}

}  // namespace

BOOST_AUTO_TEST_CASE(fifo_forgets_first_what_came_first) {
    Stage stage("moe");
    BOOST_TEST(stage.play("fifo").all.hit_ratio() < stage.measure(Reference::lru).all.hit_ratio());
}

BOOST_AUTO_TEST_CASE(lru_serves_models_that_take_turns) {
    Stage stage("turns");
    double lru = stage.play("lru").all.hit_ratio();
    BOOST_TEST(lru >= 0.95 * stage.measure(Reference::belady).all.hit_ratio());
    BOOST_TEST(lru > stage.play("sweep").all.hit_ratio());
}

BOOST_AUTO_TEST_CASE(lru_sees_more_for_watching) {
    Stage stage("moe");
    BOOST_TEST(stage.play("lru").all.hit_ratio() > stage.play("lru", {{"watched", "0"}}).all.hit_ratio());
}

BOOST_AUTO_TEST_CASE(sweep_comes_close_to_the_optimum_on_dense_models) {
    Stage stage("dense");
    for (uint64_t percent : {25, 50, 75, 90}) {
        stage.tiers = plain_tiers(stage.workload.bytes / 100 * percent);
        double belady = stage.measure(Reference::belady).all.hit_ratio();
        double sweep = stage.play("sweep").all.hit_ratio();
        BOOST_TEST(sweep >= 0.95 * belady, "at " << percent << " %: " << sweep << " of " << belady);
    }
}

BOOST_AUTO_TEST_CASE(sweep_waits_less_for_reading_ahead) {
    Stage stage("dense");
    BOOST_TEST(stage.play("sweep").all.stall_ns < stage.play("sweep", {{"reach", "0"}}).all.stall_ns);
}

BOOST_AUTO_TEST_CASE(experts_is_ahead_of_lru_on_mixtures) {
    Stage stage("moe");
    double experts = stage.play("experts").all.hit_ratio();
    BOOST_TEST(experts >
               stage.measure(Reference::lru).all.hit_ratio() + 0.02);  // though that sees every touch
    BOOST_TEST(experts > stage.play("lru").all.hit_ratio() + 0.05);
}

BOOST_AUTO_TEST_CASE(experts_reads_ahead_what_follows_from_layer_to_layer) {
    Stage stage("chain");
    stage.tiers.disk.bandwidth_bytes_per_s = 8 * kGiB;
    double learned = stage.play("experts", {{"sure", "8"}}).all.found_ratio();
    BOOST_TEST(learned > stage.play("experts", {{"sure", "0"}}).all.found_ratio() + 0.01);
}

BOOST_AUTO_TEST_CASE(experts_reads_an_experts_other_slices_with_the_first) {
    Stage stage("moe");
    ReplayResult result = stage.play("experts");
    BOOST_TEST(result.reads_ahead > result.all.reads / 2);
    BOOST_TEST(result.wasted < result.reads_ahead / 50);
}

BOOST_AUTO_TEST_CASE(hotness_brings_what_is_used_most_into_the_fastest_tier) {
    Stage stage("moe");
    stage.tiers = *parse_tiers(
        "[[tier]]\ncapacity = \"25%\"\nlatency_ns = 90\nbandwidth_per_s = \"100GiB\"\n"
        "[[tier]]\nkind = \"cxl\"\ncapacity = \"100%\"\nlatency_ns = 250\nbandwidth_per_s = \"20GiB\"\n"
        "[engine]\nsample_every = 4\n",
        "two tiers", stage.workload.bytes);
    ReplayResult moved = stage.play("hotness"), still = stage.play("hotness", {{"moves", "0"}});
    BOOST_TEST(moved.all.fast_ratio() > still.all.fast_ratio() + 0.04);
    BOOST_TEST(moved.all.stall_ns < still.all.stall_ns);
    BOOST_TEST(still.moves == 0u);
    // Extents at the edge don't travel for ever: of the moves, each extent has few.
    BOOST_TEST(moved.moves < 3 * stage.workload.extents);
}

BOOST_AUTO_TEST_CASE(fair_keeps_a_small_tenants_memory_from_a_batch_job) {
    Stage stage("mixed");
    ReplayResult fair = stage.play("fair"), lru = stage.play("lru");
    BOOST_TEST(stall_of(fair, "small.gguf") < stall_of(lru, "small.gguf") / 2);
    BOOST_TEST(stall_of(fair, "chat.gguf") < stall_of(lru, "chat.gguf"));
}

BOOST_AUTO_TEST_CASE(admission_refuses_moves_that_do_not_pay) {
    auto tables = *BpfTables::make(16);
    auto object = BpfObject::load(*read_object(build_folder() + "/policies/admission.bpf.o"), {}, tables);
    if (!object) BOOST_FAIL(object.error().text());
    tables->tiers()[1] = {
        .capacity_bytes = kGiB, .bandwidth_bytes_per_s = 100 * kGiB, .latency_ns = 90, .rank = 0};
    tables->tiers()[2] = {
        .capacity_bytes = kGiB, .bandwidth_bytes_per_s = 20 * kGiB, .latency_ns = 250, .rank = 1};
    auto verdict = [&](uint32_t heat, uint8_t from, uint8_t to) {
        tables->extents()[3] = {
            .bytes = 2 * kMiB, .heat = heat, .tier = from, .state = TIERD_EXTENT_RESIDENT};
        PolicyAnswer answer;
        return (*object)->run(Hook::admit, {.extent = 3, .from_tier = from, .to_tier = to}, answer).verdict;
    };
    constexpr uint32_t kOneTouch = 65536;
    BOOST_TEST(verdict(kOneTouch / 2, 2, 1) == TIERD_REFUSE);
    BOOST_TEST(verdict(kOneTouch, 2, 1) == TIERD_REFUSE);     // saves 78 us, costs 98
    BOOST_TEST(verdict(2 * kOneTouch, 2, 1) == TIERD_ADMIT);  // saves half as much again as it costs
    BOOST_TEST(verdict(0, 1, 2) == TIERD_ADMIT);              // making room is not refused
    BOOST_TEST(verdict(0, 0, 1) == TIERD_ADMIT);              // nor is a read
    tables->tiers()[2].bandwidth_bytes_per_s = 0;
    BOOST_TEST(verdict(kOneTouch / 2, 2, 1) == TIERD_ADMIT);  // nothing is known
}
