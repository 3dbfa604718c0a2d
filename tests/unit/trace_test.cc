// The trace format: what is written is read again, and whatever else is read does no harm.
#define BOOST_TEST_MODULE trace
#include <boost/test/unit_test.hpp>
#include <random>

#include "lib/trace/varint.h"
#include "tests/fuzz/trace_invariants.h"

using namespace tierd;

namespace {

tierd_tier_info tier(uint8_t kind, uint8_t rank, uint64_t capacity_bytes) {
    tierd_tier_info info{};
    info.kind = kind;
    info.rank = rank;
    info.capacity_bytes = capacity_bytes;
    info.latency_ns = 90;
    info.bandwidth_bytes_per_s = 200'000'000'000;
    return info;
}

Trace sample() {
    Trace trace;
    trace.complete = true;
    trace.tiers = {tier(TIERD_KIND_DRAM, 0, 1 << 30), tier(TIERD_KIND_CXL, 1, 4ull << 30)};
    TraceModel model;
    model.name = "a \x1b strange.gguf";
    model.uid = 1000;
    model.cgroup = UINT64_MAX;
    model.layers = 2;
    model.experts = 8;
    model.runs = {{3, 2 << 20, TIERD_NO_LAYER, TIERD_NO_EXPERT, TIERD_ROLE_EMBEDDING},
                  {4, 65536, 0, 7, TIERD_ROLE_EXPERT}};
    model.order = {6, 0, 5, 1, 4, 2, 3};
    model.order_learned = true;
    trace.models = {model};
    using enum TraceEventKind;
    trace.events = {{10, 5, 0, open},    {20, 5, 6, missing}, {35, 5, 6, filled}, {35, 5, 0, minor},
                    {90, 5, 6, evicted}, {95, 0, 17, lost},   {99, 5, 0, close},  {99, 0, 0, end}};
    trace.ended = true;
    return trace;
}

}  // namespace

BOOST_AUTO_TEST_CASE(what_was_written_is_read_again) {
    Trace trace = sample();
    auto read = parse_trace(write_trace(trace));
    BOOST_REQUIRE(read);
    BOOST_TEST((read->events == trace.events));
    BOOST_TEST((read->models == trace.models));
    BOOST_TEST(read->complete);
    BOOST_TEST(read->ended);
    BOOST_REQUIRE(read->tiers.size() == 2u);
    BOOST_TEST(read->tiers[1].capacity_bytes == 4ull << 30);
    BOOST_TEST(read->tiers[1].kind == TIERD_KIND_CXL);
}

BOOST_AUTO_TEST_CASE(a_pass_costs_four_bytes_a_touch) {
    TraceWriter writer(true, {});
    TraceModel model;
    model.runs = {{100'000, 2 << 20}};
    writer.open(0, 0, model);
    writer.take();
    for (uint32_t index = 0; index < 100'000; index++)
        writer.event(TraceEventKind::minor, index * 100ull, 0, index);
    BOOST_TEST(writer.pending_bytes() <= 400'000u);
}

BOOST_AUTO_TEST_CASE(a_trace_cut_off_anywhere_is_read_up_to_there) {
    std::string whole = write_trace(sample());
    Trace trace = *parse_trace(whole);
    size_t header = TraceWriter(true, trace.tiers).pending_bytes();
    for (size_t length = header; length < whole.size(); length++) {
        auto read = parse_trace(std::span(whole).first(length));
        BOOST_REQUIRE_MESSAGE(read, "cut at " << length);
        BOOST_TEST(!read->ended);
        BOOST_TEST(std::equal(read->events.begin(), read->events.end(), trace.events.begin()));
    }
    for (size_t length = 0; length < header; length++)
        BOOST_TEST(!parse_trace(std::span(whole).first(length)));
}

BOOST_AUTO_TEST_CASE(another_version_is_refused_by_its_number) {
    std::string bytes = write_trace(sample());
    bytes[kTraceMagic.size()] = 9;
    auto read = parse_trace(bytes);
    BOOST_REQUIRE(!read);
    BOOST_TEST(read.error().text().find("version 9") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(a_claim_of_more_extents_than_a_model_may_have_is_refused) {
    TraceModel model;
    model.runs = {{kMaxTraceExtents, 4096}, {1, 4096}};
    TraceWriter writer(false, {});
    writer.open(0, 0, model);
    writer.event(TraceEventKind::minor, 1, 0, 0);
    BOOST_TEST(!parse_trace(writer.take()));
}

BOOST_AUTO_TEST_CASE(varints_keep_every_number_of_64_bits) {
    for (uint64_t value : {uint64_t{0}, uint64_t{127}, uint64_t{128}, uint64_t{UINT32_MAX}, UINT64_MAX}) {
        std::string bytes;
        put_varint(bytes, value);
        put_signed(bytes, static_cast<int64_t>(value));
        VarintReader reader(bytes);
        BOOST_TEST(reader.number() == value);
        BOOST_TEST(reader.signed_number() == static_cast<int64_t>(value));
        BOOST_TEST(reader.at_end());
        BOOST_TEST(!reader.bad());
    }
}

BOOST_AUTO_TEST_CASE(damaged_traces_are_refused_or_keep_their_invariant) {
    std::mt19937_64 random(1);
    const std::string whole = write_trace(sample());
    for (int round = 0; round < 20'000; round++) {
        std::string bytes = whole;
        for (uint64_t changes = 1 + random() % 4; changes > 0; changes--) {
            size_t at = random() % bytes.size();
            if (random() % 4 == 0)
                bytes.insert(at, bytes.substr(random() % bytes.size(), 1 + random() % 8));
            else
                bytes[at] = static_cast<char>(random());
        }
        std::string broken = test::parse_and_check_trace(bytes);
        BOOST_REQUIRE_MESSAGE(broken.empty(), "round " << round << ": " << broken);
    }
}
