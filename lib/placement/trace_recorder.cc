#include "lib/placement/trace_recorder.h"

#include <algorithm>
#include <utility>

namespace tierd {
namespace {

// Number 0 is no tier, and a trace's first is number 1.
std::span<const tierd_tier_info> memory_tiers(const PolicyView& view) {
    return view.tiers.empty() ? view.tiers : view.tiers.subspan(1);
}

TraceModel describe(const PolicyView& view, const PolicyModel& model) {
    TraceModel out{.name = std::string(model.name.substr(0, 4096)),
                   .uid = model.uid,
                   .cgroup = model.cgroup,
                   .runs = {},
                   .order = {model.order.begin(), model.order.end()},
                   .order_learned = model.order_learned};
    for (const tierd_extent& row : view.extents.subspan(model.first_extent, model.extent_count)) {
        TraceRun run{1, row.bytes, row.layer, row.expert, row.role};
        if (row.layer != TIERD_NO_LAYER) out.layers = std::max(out.layers, row.layer + 1u);
        if (row.expert != TIERD_NO_EXPERT) out.experts = std::max(out.experts, row.expert + 1u);
        if (!out.runs.empty()) run.count = out.runs.back().count;
        if (!out.runs.empty() && run == out.runs.back())
            out.runs.back().count++;
        else
            out.runs.push_back({1, row.bytes, row.layer, row.expert, row.role});
    }
    // The file's own order needs no list.
    if (std::ranges::is_sorted(out.order)) out.order.clear();
    return out;
}

}  // namespace

TraceRecorder::TraceRecorder(const PolicyView& view, bool complete)
    : complete_(complete),
      started_ns_(view.now_ns),
      fetched_ns_(view.now_ns),
      writer_(complete, memory_tiers(view)) {}

TraceChunk TraceRecorder::take(const PolicyView& view) {
    fetched_ns_ = view.now_ns;
    return {.bytes = writer_.take(), .events = events_, .events_lost = lost_};
}

TraceChunk TraceRecorder::finish(const PolicyView& view) {
    if (lost_here_ > 0) writer_.lost(since_start(view), std::exchange(lost_here_, 0));
    writer_.end(since_start(view));
    return take(view);
}

void TraceRecorder::model_opened(const PolicyView&, const PolicyModel& model) {
    open_[model.model] = {model, false};
}

void TraceRecorder::first_session(const PolicyView&, uint32_t model, uint32_t uid, uint64_t cgroup) {
    auto found = open_.find(model);
    if (found == open_.end()) return;
    found->second.model.uid = uid;
    found->second.model.cgroup = cgroup;
}

// Written also beyond the limit, as it is a few bytes and frees the slot for the next model.
void TraceRecorder::model_closed(const PolicyView& view, uint32_t model) {
    open_.erase(model);
    if (!abandoned_) writer_.event(TraceEventKind::close, since_start(view), model, 0);
}

void TraceRecorder::touched(const PolicyView& view, ExtentId extent, Touch touch) {
    write(view, touch == Touch::missing ? TraceEventKind::missing : TraceEventKind::minor, extent);
}

void TraceRecorder::filled(const PolicyView& view, ExtentId extent) {
    write(view, TraceEventKind::filled, extent);
}

void TraceRecorder::evicted(const PolicyView& view, ExtentId extent) {
    write(view, TraceEventKind::evicted, extent);
}

void TraceRecorder::mapped(const PolicyView& view, ExtentId extent) {
    write(view, TraceEventKind::mapped, extent);
}

void TraceRecorder::armed(const PolicyView& view, ExtentId extent) {
    write(view, TraceEventKind::armed, extent);
}

void TraceRecorder::resident_before(const PolicyView& view, uint32_t model) {
    const PolicyModel& facts = open_.at(model).model;
    for (ExtentId id = facts.first_extent; id < facts.first_extent + facts.extent_count; id++) {
        if (view.extents[id].state != TIERD_EXTENT_RESIDENT) continue;
        write(view, TraceEventKind::filled, id);
        if ((view.extents[id].flags & TIERD_EXTENT_MAPPED) != 0) write(view, TraceEventKind::mapped, id);
    }
}

void TraceRecorder::epoch(const PolicyView& view) {
    if (abandoned_ || view.now_ns < fetched_ns_ + kAbandonedNs) return;
    abandoned_ = true;
    writer_ = TraceWriter(false, {});
    open_.clear();
}

// False: the event is lost, and counted.
bool TraceRecorder::has_room(const PolicyView& view) {
    if (writer_.pending_bytes() >= kMaxPendingBytes) {
        lost_++;
        lost_here_++;
        return false;
    }
    if (lost_here_ > 0) writer_.lost(since_start(view), std::exchange(lost_here_, 0));
    return true;
}

void TraceRecorder::write_open(const PolicyView& view, Open& open) {
    writer_.open(since_start(view), open.model.model, describe(view, open.model));
    open.written = true;
}

void TraceRecorder::write(const PolicyView& view, TraceEventKind kind, ExtentId extent) {
    if (abandoned_ || !has_room(view)) return;
    auto found = open_.find(view.extents[extent].model);
    if (found == open_.end()) return;
    if (!found->second.written) write_open(view, found->second);
    writer_.event(kind, since_start(view), found->first, extent - found->second.model.first_extent);
    events_++;
}

}  // namespace tierd
