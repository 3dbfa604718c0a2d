#include "lib/trace/trace_writer.h"

#include <algorithm>
#include <utility>

#include "lib/trace/trace_reader.h"
#include "lib/trace/varint.h"

namespace tierd {
namespace {

bool is_touch(TraceEventKind kind) {
    return kind == TraceEventKind::missing || kind == TraceEventKind::minor;
}

// 0 means "none", so that it is short.
uint64_t or_none(uint16_t value, uint16_t none) {
    return value == none ? 0 : uint64_t{value} + 1;
}

void put_model(std::string& out, const TraceModel& model) {
    put_varint(out, model.name.size());
    out += model.name;
    for (uint64_t value : {uint64_t{model.uid}, model.cgroup, uint64_t{model.layers}, uint64_t{model.experts},
                           uint64_t{model.runs.size()}})
        put_varint(out, value);
    for (const TraceRun& run : model.runs) {
        put_varint(out, run.count);
        put_varint(out, run.bytes);
        put_varint(out, or_none(run.layer, TIERD_NO_LAYER));
        put_varint(out, or_none(run.expert, TIERD_NO_EXPERT));
        put_varint(out, run.role);
    }
    put_varint(out, model.order_learned);
    put_varint(out, model.order.size());
    int64_t last = 0;
    for (uint32_t index : model.order) put_signed(out, index - std::exchange(last, index));
}

}  // namespace

uint32_t TraceModel::extent_count() const {
    uint32_t count = 0;
    for (const TraceRun& run : runs) count += run.count;
    return count;
}

TraceWriter::TraceWriter(bool complete, std::span<const tierd_tier_info> tiers) {
    out_ = kTraceMagic;
    put_varint(out_, kTraceVersion);
    put_varint(out_, complete);
    put_varint(out_, tiers.size());
    for (const tierd_tier_info& tier : tiers)
        for (uint64_t value : {uint64_t{tier.kind}, uint64_t{tier.rank}, uint64_t{tier.capacity_bytes},
                               uint64_t{tier.latency_ns}, uint64_t{tier.bandwidth_bytes_per_s}})
            put_varint(out_, value);
}

void TraceWriter::begin_event(TraceEventKind kind, uint64_t time_ns) {
    out_ += static_cast<char>(kind);
    put_varint(out_, time_ns - std::min(time_ns, last_ns_));
    last_ns_ = std::max(last_ns_, time_ns);
}

void TraceWriter::open(uint64_t time_ns, uint32_t slot, const TraceModel& model) {
    begin_event(TraceEventKind::open, time_ns);
    put_varint(out_, slot);
    put_model(out_, model);
    open_[slot] = {};
}

void TraceWriter::event(TraceEventKind kind, uint64_t time_ns, uint32_t slot, uint32_t index) {
    auto found = open_.find(slot);
    if (found == open_.end()) return;
    begin_event(kind, time_ns);
    put_varint(out_, slot);
    if (kind == TraceEventKind::close) {
        open_.erase(found);
        return;
    }
    uint32_t& last = is_touch(kind) ? found->second.touched : found->second.moved;
    put_signed(out_, int64_t{index} - std::exchange(last, index));
}

void TraceWriter::lost(uint64_t time_ns, uint32_t events) {
    begin_event(TraceEventKind::lost, time_ns);
    put_varint(out_, events);
}

void TraceWriter::end(uint64_t time_ns) {
    begin_event(TraceEventKind::end, time_ns);
}

std::string TraceWriter::take() {
    return std::exchange(out_, {});
}

std::string write_trace(const Trace& trace) {
    TraceWriter writer(trace.complete, trace.tiers);
    for (const TraceEvent& event : trace.events) {
        if (event.kind == TraceEventKind::open)
            writer.open(event.time_ns, event.slot, trace.models[event.index]);
        else if (event.kind == TraceEventKind::lost)
            writer.lost(event.time_ns, event.index);
        else if (event.kind == TraceEventKind::end)
            writer.end(event.time_ns);
        else
            writer.event(event.kind, event.time_ns, event.slot, event.index);
    }
    return writer.take();
}

}  // namespace tierd
