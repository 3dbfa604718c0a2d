#include "lib/engine/admin.h"

#include <fmt/format.h>

#include <algorithm>

#include "lib/base/bytes.h"
#include "lib/base/clock.h"
#include "lib/engine/core.h"

namespace tierd {

namespace {

// Bytes of the file between two offsets that are in memory.
uint64_t resident_bytes(Extents& extents, const WeightFile& file, uint64_t begin, uint64_t end) {
    uint64_t bytes = 0;
    while (begin < end) {
        ExtentId id = file.extent_at(begin);
        uint64_t stop = std::min(end, file.offset_of(id) + file.memory_of(id));
        if (extents.is(id, TIERD_EXTENT_RESIDENT)) bytes += stop - begin;
        begin = stop;
    }
    return bytes;
}

void describe_object(const BpfPolicy& policy, PolicyStatus& status) {
    const BpfObject& object = policy.object();
    PolicyStats stats = policy.stats();
    status.loaded = true;
    status.licence = object.summary().licence;
    status.verified_instructions = object.verified_insns();
    status.map_bytes = object.own_map_bytes();
    status.calls_dropped = stats.calls_dropped;
    status.log.insert(status.log.end(), stats.log.begin(), stats.log.end());
    for (const Knob& knob : object.knobs()) status.knobs.push_back({knob.name, knob.value});
    for (Hook hook : object.summary().hooks) {
        if (hook == Hook::init || hook == Hook::exit) continue;  // before it decided, and after
        const HookStats& row = stats.hooks[static_cast<size_t>(hook)];
        status.hooks.push_back({.hook = std::string(hook_name(hook)),
                                .calls = row.cpu.count(),
                                .p50_ns = row.cpu.percentile_ns(50),
                                .p99_ns = row.cpu.percentile_ns(99),
                                .max_ns = row.cpu.max_ns(),
                                .budget_ns = spec(hook).budget_ns,
                                .over_budget = row.over_budget,
                                .faults = row.faults});
    }
    auto add = [&](const char* reason, uint64_t count) {
        if (count > 0) status.refused.push_back({reason, count});
    };
    add("not admitted", stats.not_admitted);
    add("put off", stats.delayed);
    add("the answer is full", stats.answer_full);
    add("unknown kind", policy.unknown_kinds());
}

}  // namespace

// --- the engine

EngineStatus AdminService::status() const {
    const TierTable& tiers = core_.placement.tiers();
    EngineStatus status;
    status.version = TIERD_VERSION;
    status.uptime_ns = monotonic_ns() - core_.started_ns;
    status.policy = core_.placement.policy().name();
    status.budget_bytes = tiers.capacity_bytes();
    status.resident_bytes = tiers.used_bytes();
    status.resident_peak_bytes = tiers.peak_bytes();
    status.pinned_bytes = core_.placement.pinned_bytes();
    status.models = core_.files.all().size();
    status.sessions = core_.sessions.all().size();
    status.notes = notes_;
    status.counters = core_.placement.counters();
    MigrationThrottle throttle = core_.backend.throttle();
    status.moves = {core_.config.migrate_bytes_per_s, throttle.bytes_per_s(), throttle.slowdown()};
    for (size_t i = 0; i < kFallBackReasons; i++)
        status.fall_backs.push_back({kFallBackReasonNames[i], core_.sessions.fall_backs()[i]});
    return status;
}

void AdminService::add_notes(std::vector<std::string> notes) {
    notes_.insert(notes_.end(), std::make_move_iterator(notes.begin()), std::make_move_iterator(notes.end()));
}

std::vector<SessionStatus> AdminService::sessions() const {
    std::vector<SessionStatus> list;
    for (auto& [number, client] : core_.sessions.all()) {
        SessionStatus session;
        session.session = number;
        session.pid = client->peer.pid;
        session.uid = client->peer.uid;
        session.command = client->command;
        session.regions = client->regions.size();
        for (const Region& region : client->regions) session.mapped_bytes += region.length_bytes;
        session.faults_missing = client->faults_missing;
        session.faults_minor = client->faults_minor;
        session.slowest_fault_ns = client->slowest_fault_ns;
        session.user_mode_faults = client->peer.user_mode_faults;
        list.push_back(std::move(session));
    }
    return list;
}

std::vector<FaultStageStatus> AdminService::faults() const {
    std::vector<FaultStageStatus> rows;
    for (size_t i = 0; i < kFaultStages; i++) {
        const StageHistogram& stage = core_.faults.profile().stages()[i];
        rows.push_back({.stage = kFaultStageNames[i],
                        .count = stage.count,
                        .sum_ns = stage.sum_ns,
                        .max_ns = stage.max_ns,
                        .buckets = {stage.buckets.begin(), stage.buckets.end()}});
    }
    return rows;
}

SlowFault AdminService::slowest_fault() const {
    return core_.faults.slowest();
}

std::map<dev_t, uint64_t> AdminService::bytes_on_devices() const {
    std::map<dev_t, uint64_t> bytes;
    for (auto& [number, file] : core_.files.all())
        if (!file->changed) bytes[static_cast<dev_t>(file->origin.identity.device)] += file->size_bytes();
    return bytes;
}

bool AdminService::disks_are_idle() const {
    const Filler& filler = core_.placement.filler();
    if (!filler.is_idle() || core_.loop.is_stopping()) return false;
    return monotonic_ns() - filler.last_read_ns() >= core_.config.disk_idle_ms * kNsPerMs;
}

// --- models

ModelStatus AdminService::describe(const WeightFile& file) const {
    ModelStatus model;
    model.file = file.number;
    model.name = file.name;
    model.path = file.path;
    model.format = format_name(file.map.format);
    model.architecture = file.map.architecture;
    model.backing = backing_name(file.arena.backing());
    model.arena = file.arena.name();
    model.header_error = file.header_error;
    model.file_bytes = file.size_bytes();
    model.extent_bytes = file.layout.extent_bytes();
    model.extents = file.extent_count;
    model.resident_extents = file.resident_extents;
    model.resident_bytes = std::min(file.resident_bytes, file.size_bytes());
    model.pinned_bytes = file.pinned ? file.memory_bytes() : 0;
    model.sessions = file.clients;
    model.tensors = file.map.tensors.size();
    model.order_learned = file.order_learned;
    model.changed = file.changed;
    return model;
}

std::vector<ModelStatus> AdminService::models() const {
    std::vector<ModelStatus> list;
    for (auto& [number, file] : core_.files.all()) list.push_back(describe(*file));
    return list;
}

Result<ModelDetail> AdminService::tensors(const std::string& model) const {
    auto named = core_.files.named(model);
    if (!named) return std::unexpected(named.error());
    Extents& extents = core_.placement.extents();
    const WeightFile& file = *named->front();
    ModelDetail detail;
    detail.model = describe(file);
    std::map<int, LayerStatus> layers;
    for (const Tensor& tensor : file.map.tensors) {
        TensorStatus row;
        row.name = tensor.name;
        row.dtype = tensor.dtype;
        row.role = role_name(tensor.role);
        row.layer = tensor.layer == TIERD_NO_LAYER ? -1 : tensor.layer;
        row.expert = tensor.expert == TIERD_NO_EXPERT ? -1 : tensor.expert;
        row.bytes = tensor.end_bytes - tensor.begin_bytes;
        row.resident_bytes = resident_bytes(extents, file, tensor.begin_bytes, tensor.end_bytes);
        LayerStatus& layer = layers[row.layer];
        layer.layer = row.layer;
        layer.bytes += row.bytes;
        layer.resident_bytes += row.resident_bytes;
        detail.tensors.push_back(std::move(row));
    }
    for (ExtentId id = file.first_extent; file.contains(id); id++) {
        const tierd_extent& row = extents[id];
        auto layer = layers.find(row.layer == TIERD_NO_LAYER ? -1 : row.layer);
        if (layer != layers.end()) layer->second.touches += row.touches;
    }
    for (auto& [number, layer] : layers) detail.layers.push_back(layer);
    return detail;
}

Result<HeatmapStatus> AdminService::heatmap(const std::string& model) const {
    auto named = core_.files.named(model);
    if (!named) return std::unexpected(named.error());
    Extents& extents = core_.placement.extents();
    const WeightFile& file = *named->front();
    const uint64_t now = monotonic_ns();
    HeatmapStatus map;
    map.model = describe(file);
    for (ExtentId id = file.first_extent; file.contains(id); id++) {
        const tierd_extent& row = extents[id];
        HeatEstimator::Estimate estimate = extents.heat().estimate(id, now);
        if (estimate.samples == 0) estimate.heat = row.heat;
        map.extents.push_back({.offset_bytes = file.offset_of(id),
                               .bytes = row.bytes,
                               .layer = row.layer == TIERD_NO_LAYER ? -1 : row.layer,
                               .expert = row.expert == TIERD_NO_EXPERT ? -1 : row.expert,
                               .role = role_name(row.role),
                               .tier = row.tier,
                               .resident = row.state == TIERD_EXTENT_RESIDENT,
                               .heat = estimate.heat / 65536.0,
                               .samples = estimate.samples,
                               .reader_node = extents.heat().reader_node(id),
                               .gpus = {}});
    }
    return map;
}

HeatSnapshot AdminService::heat_snapshot() const {
    const uint64_t now = monotonic_ns();
    Extents& extents = core_.placement.extents();
    HeatSnapshot snapshot;
    snapshot.readers = core_.sampler.readers();
    for (auto& [number, file] : core_.files.all()) {
        HeatSnapshot::File one;
        one.file = file;
        one.extents.reserve(file->extent_count);
        one.reader_nodes.reserve(file->extent_count);
        for (ExtentId id = file->first_extent; file->contains(id); id++) {
            tierd_extent row = extents[id];
            // Rows are written when something happens; what was not touched since has cooled.
            HeatEstimator::Estimate estimate = extents.heat().estimate(id, now);
            if (estimate.samples > 0) row.heat = estimate.heat, row.samples = estimate.samples;
            one.extents.push_back(row);
            one.reader_nodes.push_back(extents.heat().reader_node(id));
        }
        snapshot.files.push_back(std::move(one));
    }
    return snapshot;
}

Result<ModelStatus> AdminService::set_pinned(const std::string& model, bool pinned) {
    auto files = core_.files.named(model);
    if (!files) return std::unexpected(files.error());
    uint64_t more = 0;
    for (auto& file : *files) more += file->pinned ? 0 : file->memory_bytes();
    const Placement& placement = core_.placement;
    uint64_t keep_free = kMinBudgetExtents * core_.config.extent_bytes;
    if (pinned && placement.pinned_bytes() + more + keep_free > placement.tiers().usable_bytes())
        return fail(
            Code::no_space, "pin", model,
            fmt::format(
                "it needs {} of the budget beside {} pinned already and {} kept free; raise the budget",
                format_bytes(more), format_bytes(placement.pinned_bytes()), format_bytes(keep_free)));
    for (auto& file : *files) core_.placement.set_pinned(*file, pinned);
    return describe(*files->front());
}

Result<uint64_t> AdminService::evict(const std::string& model) {
    auto files = core_.files.named(model);
    if (!files) return std::unexpected(files.error());
    uint64_t bytes = 0;
    for (auto& file : *files) bytes += core_.placement.evict(*file);
    return bytes;
}

Result<JobStatus> AdminService::preload(const std::string& model) {
    auto named = core_.files.named(model);
    if (!named) return std::unexpected(named.error());
    std::vector<PlacedFile*> files;
    for (auto& file : *named) files.push_back(file.get());
    return core_.placement.preload(files);
}

// --- sources of access statistics

std::vector<SourceStatus> AdminService::sources() const {
    std::vector<SourceStatus> list;
    for (const SourceOffer& offer : offers_) {
        SourceStatus status;
        status.name = offer.name;
        status.record_fields = offer.record_fields;
        status.event = offer.event;
        status.available = offer.available;
        status.unavailable_reason = offer.unavailable_reason;
        describe_source(status);
        list.push_back(std::move(status));
    }
    return list;
}

void AdminService::describe_source(SourceStatus& status) const {
    const bool hint = status.name == "hint";
    status.used = hint ? core_.hinter.is_on() : core_.sampler.source() == status.name;
    if (status.available && !status.used)
        status.unavailable_reason = core_.hinter.is_on() || core_.sampler.is_running()
                                        ? "another source is used"
                                        : "[sample] source is off";
    if (status.used && core_.sampler.is_paused())
        status.unavailable_reason = "it is paused, until `tierctl sources --resume`";
    if (hint) {
        status.records = core_.placement.counters().hints_touched;
        status.cost_share = core_.hinter.budget().cost_share();
        status.wait_share = core_.hinter.budget().wait_share();
        status.rate = core_.hinter.rate_per_s();
    } else if (status.used) {
        SamplerStatus now = core_.sampler.status();
        status.records = now.counters.records;
        status.lost = now.counters.lost;
        status.throttled = now.counters.throttled;
        status.damaged = now.counters.damaged;
        status.unattributed = now.unattributed;
        status.stale = now.stale;
        status.cost_share = now.cost_share;
        status.period = now.period;
    }
}

std::vector<SourceStatus> AdminService::pause_sources(bool paused) {
    core_.sampler.pause(paused);
    return sources();
}

// --- the policy

PolicyStatus AdminService::policy() const {
    PolicyHost& host = core_.placement.policy();
    const PolicyRecord& record = host.record();
    PolicyStatus status;
    status.name = host.name();
    status.built_in = core_.config.policy;
    status.loads = record.loads;
    status.reloads = record.reloads;
    status.ejections = record.ejections;
    status.ejected = record.ejected;
    status.ejected_reason = record.ejected_reason;
    status.rows = core_.placement.extents().size();
    status.capacity = host.tables() != nullptr ? host.tables()->capacity() : 0;
    for (size_t i = 0; i < kProposalNames.size(); i++)
        status.accepted.push_back({kProposalNames[i], record.decisions.accepted[i]});
    for (size_t i = 1; i < kRefusalNames.size(); i++)
        if (record.decisions.refused[i] > 0)
            status.refused.push_back({kRefusalNames[i], record.decisions.refused[i]});
    if (host.bpf() == nullptr) return status;
    status.loaded_for_ns = monotonic_ns() - record.loaded_at_ns;
    status.log = record.init_log;
    describe_object(*host.bpf(), status);
    return status;
}

Result<void> AdminService::install_policy(const NewPolicy& policy) {
    if (core_.loop.is_stopping())
        return fail(Code::busy, "load the policy", policy.object->name(), "tierd is shutting down");
    return core_.placement.install_policy(policy);
}

}  // namespace tierd
