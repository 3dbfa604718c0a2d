#include "daemon/api_json.h"

#include "lib/base/base64.h"

namespace tierd {
namespace {

using nlohmann::json;

json number_or_null(int value) {
    return value < 0 ? json(nullptr) : json(value);
}

json to_json_value(const EngineCounters& c) {
    return {{"epochs", c.epochs},
            {"faults_missing", c.faults_missing},
            {"faults_minor", c.faults_minor},
            {"faults_joined", c.faults_joined},
            {"fills_demand", c.fills_demand},
            {"fills_read_ahead", c.fills_read_ahead},
            {"fills_preload", c.fills_preload},
            {"fills_wasted", c.fills_wasted},
            {"bytes_read", c.bytes_read},
            {"bytes_evicted", c.bytes_evicted},
            {"evictions", c.evictions},
            {"read_errors", c.read_errors},
            {"generations_changed", c.generations_changed},
            {"fall_backs_ordered", c.fall_backs_ordered},
            {"decisions_refused", c.decisions_refused},
            {"sessions_opened", c.sessions_opened},
            {"moves", c.moves},
            {"bytes_moved", c.bytes_moved},
            {"moves_refused", c.moves_refused},
            {"placements_corrected", c.placements_corrected},
            {"extents_watched", c.extents_watched},
            {"huge_mappings", c.huge_mappings},
            {"slowest_fault_ns", c.slowest_fault_ns},
            {"hints", c.hints},
            {"hints_touched", c.hints_touched}};
}

json to_json_value(const LayerStatus& layer) {
    return {{"layer", number_or_null(layer.layer)},
            {"bytes", layer.bytes},
            {"resident_bytes", layer.resident_bytes},
            {"touches", layer.touches}};
}

json to_json_value(const TensorStatus& tensor) {
    return {{"name", tensor.name},
            {"dtype", tensor.dtype},
            {"role", tensor.role},
            {"layer", number_or_null(tensor.layer)},
            {"expert", number_or_null(tensor.expert)},
            {"bytes", tensor.bytes},
            {"resident_bytes", tensor.resident_bytes}};
}

json to_json_value(const HookStatus& hook) {
    return {{"hook", hook.hook},
            {"calls", hook.calls},
            {"p50_ns", hook.p50_ns},
            {"p99_ns", hook.p99_ns},
            {"max_ns", hook.max_ns},
            {"budget_ns", hook.budget_ns},
            {"over_budget", hook.over_budget},
            {"faults", hook.faults}};
}

json to_json_value(const MovesStatus& m) {
    return {{"limit_bytes_per_s", m.limit_bytes_per_s},
            {"pace_bytes_per_s", m.pace_bytes_per_s},
            {"reader_slowdown", m.reader_slowdown > 0 ? json(m.reader_slowdown) : json(nullptr)}};
}

json to_json_value(const NamedCount& named) {
    return {{"name", named.name}, {"count", named.count}};
}

json to_json_value(const NamedValue& named) {
    return {{"name", named.name}, {"value", named.value}};
}

json to_json_value(const ExtentHeatStatus& e) {
    return {{"offset_bytes", e.offset_bytes},
            {"bytes", e.bytes},
            {"layer", number_or_null(e.layer)},
            {"expert", number_or_null(e.expert)},
            {"role", e.role},
            {"tier", e.tier},
            {"resident", e.resident},
            {"gpus", e.gpus},
            {"heat", e.heat},
            {"samples", e.samples},
            {"reader_node", number_or_null(e.reader_node)}};
}

template <class T>
json list_of(const std::vector<T>& items) {
    json list = json::array();
    for (const T& item : items) list.push_back(to_json_value(item));
    return list;
}

}  // namespace

json to_json_value(const EngineStatus& s) {
    return {{"version", s.version},
            {"uptime_ns", s.uptime_ns},
            {"policy", s.policy},
            {"budget_bytes", s.budget_bytes},
            {"resident_bytes", s.resident_bytes},
            {"resident_peak_bytes", s.resident_peak_bytes},
            {"pinned_bytes", s.pinned_bytes},
            {"models", s.models},
            {"sessions", s.sessions},
            {"notes", s.notes},
            {"counters", to_json_value(s.counters)},
            {"moves", to_json_value(s.moves)},
            {"fall_backs", list_of(s.fall_backs)},
            {"refusals", list_of(s.refusals)}};
}

json to_json_value(const ModelStatus& m) {
    return {{"file", m.file},
            {"name", m.name},
            {"path", m.path},
            {"format", m.format},
            {"architecture", m.architecture},
            {"backing", m.backing},
            {"arena", m.arena},
            {"header_error", m.header_error},
            {"file_bytes", m.file_bytes},
            {"extent_bytes", m.extent_bytes},
            {"extents", m.extents},
            {"resident_extents", m.resident_extents},
            {"resident_bytes", m.resident_bytes},
            {"pinned_bytes", m.pinned_bytes},
            {"sessions", m.sessions},
            {"tensors", m.tensors},
            {"order_learned", m.order_learned},
            {"changed", m.changed}};
}

json to_json_value(const SessionStatus& s) {
    return {{"session", s.session},
            {"pid", s.pid},
            {"uid", s.uid},
            {"command", s.command},
            {"regions", s.regions},
            {"mapped_bytes", s.mapped_bytes},
            {"faults_missing", s.faults_missing},
            {"faults_minor", s.faults_minor},
            {"slowest_fault_ns", s.slowest_fault_ns},
            {"user_mode_faults", s.user_mode_faults},
            {"gpu_lease_bytes", s.gpu_lease_bytes},
            {"gpu_requested_bytes", s.gpu_requested_bytes},
            {"gpu_position", s.gpu_position}};
}

json to_json_value(const TierStatus& t) {
    return {{"number", t.number},
            {"name", t.name},
            {"kind", t.kind},
            {"capacity_bytes", t.capacity_bytes},
            {"used_bytes", t.used_bytes},
            {"nodes", t.nodes},
            {"latency_ns", t.latency_ns},
            {"bandwidth_bytes_per_s", t.bandwidth_bytes_per_s},
            {"figures", t.figures},
            {"state", t.state}};
}

json to_json_value(const DiskStatus& d) {
    json reads = json::array();
    for (const DiskSpeed& at : d.reads)
        reads.push_back({{"depth", at.depth}, {"bytes_per_s", at.bytes_per_s}});
    return {{"name", d.name},
            {"kind", d.kind},
            {"size_bytes", d.size_bytes},
            {"file_bytes", d.file_bytes},
            {"latency_ns", d.latency_ns},
            {"reads", std::move(reads)},
            {"measured_ns", d.measured_ns}};
}

json to_json_value(const FaultStageStatus& s) {
    return {{"stage", s.stage},
            {"count", s.count},
            {"sum_ns", s.sum_ns},
            {"max_ns", s.max_ns},
            {"buckets", s.buckets}};
}

json to_json_value(const SlowFault& f) {
    return {{"pid", f.pid},           {"path", f.path},         {"extent", f.extent},
            {"since_ns", f.since_ns}, {"queue_ns", f.queue_ns}, {"read_ns", f.read_ns},
            {"check_ns", f.check_ns}, {"map_ns", f.map_ns},     {"whole_ns", f.whole_ns}};
}

json to_json_value(const SourceStatus& s) {
    return {{"name", s.name},
            {"tells", s.tells},
            {"event", s.event},
            {"available", s.available},
            {"used", s.used},
            {"why_not", s.why_not},
            {"records", s.records},
            {"lost", s.lost},
            {"throttled", s.throttled},
            {"damaged", s.damaged},
            {"elsewhere", s.elsewhere},
            {"ended", s.ended},
            {"period", s.period},
            {"rate_per_s", s.rate},
            {"cost_share", s.cost_share},
            {"wait_share", s.wait_share}};
}

json to_json_value(const HotRow& r) {
    return {{"model", r.model},
            {"name", r.name},
            {"object", r.object},
            {"offset_bytes", r.offset_bytes},
            {"layer", number_or_null(r.layer)},
            {"expert", number_or_null(r.expert)},
            {"bytes", r.bytes},
            {"heat", r.heat},
            {"samples", r.samples},
            {"node", number_or_null(r.node)}};
}

json to_json_value(const HeatmapStatus& map) {
    return {{"model", to_json_value(map.model)}, {"extents", list_of(map.extents)}};
}

json to_json_value(const ModelDetail& detail) {
    return {{"model", to_json_value(detail.model)},
            {"layers", list_of(detail.layers)},
            {"tensors", list_of(detail.tensors)}};
}

json to_json_value(const PolicyStatus& p) {
    return {{"name", p.name},
            {"loaded", p.loaded},
            {"built_in", p.built_in},
            {"unusable", p.unusable},
            {"licence", p.licence},
            {"loaded_for_ns", p.loaded_for_ns},
            {"rows", p.rows},
            {"room", p.room},
            {"verified_instructions", p.verified_instructions},
            {"map_bytes", p.map_bytes},
            {"knobs", list_of(p.knobs)},
            {"hooks", list_of(p.hooks)},
            {"accepted", list_of(p.accepted)},
            {"refused", list_of(p.refused)},
            {"calls_dropped", p.calls_dropped},
            {"log", p.log},
            {"loads", p.loads},
            {"reloads", p.reloads},
            {"ejections", p.ejections},
            {"ejected", p.ejected},
            {"ejected_reason", p.ejected_reason}};
}

json to_json_value(const TraceChunk& c) {
    return {{"bytes", to_base64(c.bytes)}, {"events", c.events}, {"events_lost", c.events_lost}};
}

json to_json_value(const JobStatus& j) {
    return {{"job", j.job},
            {"what", j.what},
            {"done_bytes", j.done_bytes},
            {"total_bytes", j.total_bytes},
            {"finished", j.finished},
            {"error", j.error}};
}

json to_json_value(const Error& error) {
    Error without_hint = error;
    without_hint.hint.clear();
    return {
        {"error", {{"code", code_name(error.code)}, {"message", without_hint.text()}, {"hint", error.hint}}}};
}

std::string dump(const json& value) {
    return value.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}

std::string valid_utf8(const std::string& text) {
    // The library replaces only while it writes, so the text goes through its writer and back.
    return json::parse(json(text).dump(-1, ' ', false, json::error_handler_t::replace)).get<std::string>();
}

}  // namespace tierd
