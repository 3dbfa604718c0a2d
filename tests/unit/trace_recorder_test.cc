// What a recorder does when nobody fetches in time: it counts what it loses, and gives up at last.
#define BOOST_TEST_MODULE trace_recorder
#include <boost/test/unit_test.hpp>

#include <vector>

#include "lib/placement/trace_recorder.h"
#include "lib/trace/trace_reader.h"

using namespace tierd;

namespace {

struct Table {
    std::vector<tierd_extent> rows = std::vector<tierd_extent>(64);
    uint64_t now_ns = 1'000;

    Table() {
        for (tierd_extent& row : rows) {
            row.model = 3;
            row.bytes = 2 << 20;
            row.layer = TIERD_NO_LAYER;
            row.expert = TIERD_NO_EXPERT;
        }
        for (size_t i = 10; i < 20; i++) rows[i].layer = 1;
    }
    PolicyView view() { return {.extents = rows, .dram = {}, .now_ns = now_ns}; }
    PolicyModel model() const {
        return {.model = 3, .extent_count = static_cast<uint32_t>(rows.size()), .order = {}, .name = "m"};
    }
};

}  // namespace

BOOST_AUTO_TEST_CASE(a_model_is_written_with_its_first_event_and_its_user) {
    Table table;
    TraceRecorder recorder(table.view());
    recorder.model_opened(table.view(), table.model());
    recorder.first_session(table.view(), 3, 1000, 77);
    recorder.touched(table.view(), 12, Touch::missing);
    recorder.filled(table.view(), 12);
    recorder.evicted(table.view(), 12);
    recorder.model_closed(table.view(), 3);
    Trace trace = parse_trace(recorder.finish(table.view()).bytes).value();
    BOOST_REQUIRE(trace.models.size() == 1u);
    TraceModel wanted{.name = "m", .uid = 1000, .cgroup = 77, .layers = 2, .runs = {}, .order = {}};
    wanted.runs = {{10, 2 << 20}, {10, 2 << 20, 1}, {44, 2 << 20}};
    BOOST_TEST((trace.models[0] == wanted));
    std::vector<TraceEventKind> kinds;
    for (const TraceEvent& event : trace.events) kinds.push_back(event.kind);
    std::vector<TraceEventKind> all = {TraceEventKind::open,   TraceEventKind::missing,
                                       TraceEventKind::filled, TraceEventKind::evicted,
                                       TraceEventKind::close,  TraceEventKind::end};
    BOOST_TEST((kinds == all));
    BOOST_TEST(trace.events[1].index == 12u);
}

BOOST_AUTO_TEST_CASE(what_nobody_fetches_is_bounded_and_the_loss_is_counted_where_it_happened) {
    Table table;
    TraceRecorder recorder(table.view());
    recorder.model_opened(table.view(), table.model());
    constexpr uint32_t kTouches = 6'000'000;
    for (uint32_t i = 0; i < kTouches; i++) {
        table.now_ns += 300;
        recorder.touched(table.view(), i % 64, Touch::minor);
    }
    TraceChunk first = recorder.take(table.view());
    BOOST_TEST(first.bytes.size() <= TraceRecorder::kMaxPendingBytes + 16);
    BOOST_TEST(first.events_lost > 0u);
    BOOST_TEST(first.events + first.events_lost == kTouches);
    recorder.touched(table.view(), 5, Touch::minor);
    TraceChunk last = recorder.finish(table.view());
    Trace trace = parse_trace(first.bytes + last.bytes).value();
    BOOST_REQUIRE(trace.events.size() > 3u);
    const TraceEvent& gap = trace.events[trace.events.size() - 3];
    BOOST_TEST((gap.kind == TraceEventKind::lost));
    BOOST_TEST(gap.index == first.events_lost);
    BOOST_TEST(trace.events[trace.events.size() - 2].index == 5u);
    BOOST_TEST(trace.ended);
}

BOOST_AUTO_TEST_CASE(a_recording_that_nobody_fetches_ends_by_itself) {
    Table table;
    TraceRecorder recorder(table.view());
    recorder.model_opened(table.view(), table.model());
    table.now_ns += TraceRecorder::kAbandonedNs - 1;
    recorder.epoch(table.view());
    BOOST_TEST(!recorder.abandoned());
    table.now_ns += 1;
    recorder.epoch(table.view());
    BOOST_TEST(recorder.abandoned());
    recorder.touched(table.view(), 1, Touch::minor);
    BOOST_TEST(recorder.take(table.view()).events == 0u);
}
