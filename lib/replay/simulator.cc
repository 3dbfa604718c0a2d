#include "lib/replay/simulator.h"

#include <fmt/format.h>

#include <algorithm>

#include "lib/base/clock.h"
#include "lib/base/invariant.h"

namespace tierd {
namespace {

constexpr uint64_t kStartNs = kNsPerSecond;  // so that 0 stays "never"

uint32_t longest_bytes(const Workload& workload) {
    uint32_t bytes = 0;
    for (const WorkloadModel& model : workload.models)
        for (const TraceRun& run : model.facts->runs) bytes = std::max(bytes, run.bytes);
    return bytes;
}

PlacementConfig placement_config(const Workload& workload, const ReplayTiers& setting, bool ideal) {
    PlacementConfig config{.extent_bytes = std::max(longest_bytes(workload), 1u),
                           .io_depth = setting.disk.depth,
                           .keeps_watermark = !ideal,
                           .tiers = {},
                           .system_tier = "tier1"};
    for (const tierd_tier_info& tier : setting.tiers)
        config.tiers.push_back({.name = fmt::format("tier{}", config.tiers.size() + 1),
                                .kind = static_cast<TierKind>(tier.kind),
                                .capacity_bytes = tier.capacity_bytes,
                                .latency_ns = tier.latency_ns,
                                .bandwidth_bytes_per_s = tier.bandwidth_bytes_per_s});
    return config;
}

// A model as a file of small pages: whatever is mapped can be watched.
std::unique_ptr<PlacedFile> make_file(const WorkloadModel& model) {
    auto file = std::make_unique<PlacedFile>();
    std::vector<uint32_t> sizes;
    for (const TraceRun& run : model.facts->runs) sizes.insert(sizes.end(), run.count, run.bytes);
    file->name = model.facts->name;
    file->layout = ExtentLayout::of_sizes(sizes);
    file->file_bytes = model.bytes;
    file->extent_count = model.extent_count;
    file->order = model.order;
    file->order_learned = model.facts->order_learned;
    return file;
}

std::vector<ExtentLabel> labels_of(const TraceModel& model) {
    std::vector<ExtentLabel> labels;
    for (const TraceRun& run : model.runs)
        labels.insert(labels.end(), run.count, {.layer = run.layer, .expert = run.expert, .role = run.role});
    return labels;
}

}  // namespace

Result<std::unique_ptr<Simulator>> Simulator::make(const Workload& workload, const ReplayTiers& tiers,
                                                   std::unique_ptr<Policy> policy,
                                                   std::shared_ptr<BpfTables> tables, bool ideal) {
    bool fits = std::ranges::any_of(
        tiers.tiers, [&](auto& tier) { return tier.capacity_bytes >= longest_bytes(workload); });
    if (!fits) return fail(Code::bad_input, "replay the trace: an extent is larger than every tier");
    auto table = ExtentTable::make();
    if (!table) return std::unexpected(table.error());
    std::unique_ptr<Simulator> simulator(
        new Simulator(workload, tiers, std::move(*table), std::move(policy), ideal));
    if (tables == nullptr) return simulator;
    auto shared = simulator->placement_.policy().share(std::move(tables));
    if (!shared) return std::unexpected(shared.error());
    return simulator;
}

Simulator::Simulator(const Workload& workload, const ReplayTiers& tiers, ExtentTable table,
                     std::unique_ptr<Policy> policy, bool ideal)
    : script_(workload),
      setting_(tiers),
      ideal_(ideal),
      now_ns_(kStartNs),
      placement_(placement_config(workload, tiers, ideal), std::move(table), std::move(policy), *this, {}),
      files_(workload.models.size()),
      readers_(workload.readers.size()),
      mapped_(workload.extents) {
    for (const WorkloadModel& model : workload.models)
        result_.models.push_back({model.facts->name, model.facts->uid, {}});
    result_.policy = placement_.policy().name();
    result_.capacity_bytes = tiers.capacity_bytes();
}

Result<ReplayResult> Simulator::run() {
    for (uint32_t reader = 0; reader < script_.readers.size(); reader++) {
        plan(kStartNs + script_.readers[reader].open_ns, Kind::open, reader);
        running_++;
    }
    plan(kStartNs + setting_.epoch_ns, Kind::epoch, 0);
    while (running_ > 0) {
        Event event = events_.top();
        events_.pop();
        now_ns_ = event.time_ns;
        on_event(event);
        handle_events();
        pump();
    }
    add_up();
    return result_;
}

void Simulator::add_up() {
    const EngineCounters& counters = placement_.counters();
    result_.total_ns = now_ns_ - kStartNs;
    for (const ModelResult& model : result_.models) result_.all += model.counts;
    result_.reads_ahead = counters.fills_read_ahead;
    result_.wasted = counters.fills_wasted;
    result_.evictions = counters.evictions;
    result_.moves = counters.moves;
    result_.bytes_moved = counters.bytes_moved;
    const DecisionCounts& decisions = placement_.policy().record().decisions;
    for (size_t i = 1; i < kRefusalNames.size(); i++)
        if (decisions.refused[i] > 0) result_.refused.push_back({kRefusalNames[i], decisions.refused[i]});
}

void Simulator::plan(uint64_t time_ns, Kind kind, uint32_t id) {
    events_.push({time_ns, planned_++, kind, id, time_ns});
}

void Simulator::on_event(const Event& event) {
    switch (event.kind) {
        case Kind::open:
            return on_open(event.id);
        case Kind::touch:
            return on_touch(event.id);
        case Kind::read:
            return placement_.on_read(event.id, event.read_ns);
        case Kind::released:
            return placement_.on_released(event.id, true);
        case Kind::moved:
            return placement_.on_moved({.extent = event.id, .outcome = MoveEnd::Outcome::moved});
        case Kind::epoch:
            placement_.epoch();
            return plan(now_ns_ + setting_.epoch_ns, Kind::epoch, 0);
    }
}

// Models stay open, so that a row is the same extent all the while; what a reader left in memory stays until somebody needs it.
void Simulator::on_open(uint32_t reader) {
    const WorkloadReader& workload = script_.readers[reader];
    const WorkloadModel& model = script_.models[workload.model];
    std::unique_ptr<PlacedFile>& file = files_[workload.model];
    if (file == nullptr) {
        file = make_file(model);
        (void)placement_.take_rows(*file);  // a script never has more extents than the table
        placement_.open(*file, labels_of(*model.facts));
        invariant(file->first_extent == model.first_extent && file->slot == workload.model,
                  "models have the rows and slots that the script gave them");
    }
    placement_.attach(*file, model.facts->uid, model.facts->cgroup);
    if (workload.touches.empty()) return finish(workload.model);
    plan(now_ns_ + workload.touches.front().think_ns, Kind::touch, reader);
}

void Simulator::on_touch(uint32_t reader) {
    const WorkloadReader& workload = script_.readers[reader];
    ExtentId id = script_.models[workload.model].first_extent + workload.touches[readers_[reader].next].index;
    ReplayCounts& counts = counts_of(id);
    counts.touches++;
    readers_[reader].asked_ns = now_ns_;
    const bool found = placement_.extents().is(id, TIERD_EXTENT_RESIDENT);
    const bool seen = !found || !mapped_[id] || ideal_;
    if (found) {
        counts.found++;
        if (placement_.tiers().find(placement_.extents()[id].tier)->rank == 0) counts.found_fast++;
        map(id);
    } else {
        waiters_[id].push_back(reader);
        placement_.demand(id);
    }
    if (seen)
        placement_.accessed(id, found ? Touch::minor : Touch::missing);
    else
        sample(id);
    if (found) serve(reader);
}

// Each so-many-th touch of mapped memory is counted, as the processor's samples are.
void Simulator::sample(ExtentId id) {
    if (setting_.sample_every == 0 || ++sampled_ % setting_.sample_every != 0) return;
    HeatEstimator& heat = placement_.extents().heat();
    heat.count(id, setting_.sample_every, now_ns_);
    HeatEstimator::Estimate estimate = heat.estimate(id, now_ns_);
    tierd_extent& row = placement_.extents()[id];
    row.heat = estimate.heat;
    row.samples = estimate.samples;
    row.last_touch_ns = now_ns_;
}

// The extents behind a touched one are mapped with it while nothing is short.
void Simulator::map(ExtentId id) {
    const ExtentId end = placement_.mapped_with(id);
    for (ExtentId next = id; next < end; next++) {
        if (!placement_.extents().is(next, TIERD_EXTENT_RESIDENT)) continue;
        mapped_[next] = true;
        placement_.extents().set_flag(next, TIERD_EXTENT_MAPPED, true);
    }
}

void Simulator::pump() {
    bool more = true;
    while (more) {
        bool done = placement_.pump();
        more = !done || placement_.filler().has_more();
        handle_events();
    }
}

void Simulator::handle_events() {
    for (const PlacementEvent& event : placement_.take_events()) {
        if (event.kind == PlacementEvent::Kind::released) continue;
        const ExtentId id = event.extent;
        bool filled = event.kind == PlacementEvent::Kind::filled;
        if (filled && (event.map_ahead || waiters_.contains(id))) map(id);
        if (filled && event.foreseen) placement_.accessed(id, Touch::minor, true);
        serve_waiters(id);
    }
}

void Simulator::serve_waiters(ExtentId id) {
    auto waiting = waiters_.extract(id);
    if (waiting.empty()) return;
    for (uint32_t reader : waiting.mapped()) serve(reader);
}

// The reader goes on: it reads the extent where it is, computes, and touches the next.
void Simulator::serve(uint32_t reader) {
    const WorkloadReader& workload = script_.readers[reader];
    const WorkloadTouch& touch = workload.touches[readers_[reader].next++];
    const tierd_extent& row = placement_.extents()[script_.models[workload.model].first_extent + touch.index];
    const TierTable& tiers = placement_.tiers();
    uint64_t fastest_ns = transfer_ns(row.bytes, tiers.by_speed().front()->spec.bandwidth_bytes_per_s);
    const Tier* here = tiers.find(row.tier);
    uint64_t here_ns =
        here == nullptr ? fastest_ns : transfer_ns(row.bytes, here->spec.bandwidth_bytes_per_s);
    uint64_t slow_ns = here_ns - std::min(here_ns, fastest_ns);
    result_.models[workload.model].counts.stall_ns += now_ns_ - readers_[reader].asked_ns + slow_ns;
    if (readers_[reader].next == workload.touches.size()) return finish(workload.model);
    plan(now_ns_ + slow_ns + workload.touches[readers_[reader].next].think_ns, Kind::touch, reader);
}

void Simulator::finish(uint32_t model) {
    running_--;
    placement_.detach(*files_[model]);
}

// --- the machine beneath

ReadStart Simulator::read(PlacedFile& file, ExtentId id, int) {
    const uint32_t bytes = file.memory_of(id);
    counts_of(id).reads++;
    result_.bytes_read += bytes;
    disk_free_ns_ =
        std::max(disk_free_ns_, now_ns_) + transfer_ns(bytes, setting_.disk.bandwidth_bytes_per_s);
    plan(disk_free_ns_ + setting_.disk.latency_ns, Kind::read, id);
    return ReadStart::begun;
}

void Simulator::release(PlacedFile&, ExtentId id, bool) {
    mapped_[id] = false;
    plan(ideal_ ? now_ns_ : now_ns_ + setting_.evict_ns, Kind::released, id);
}

void Simulator::move(PlacedFile&, MoveOrder order) {
    plan(now_ns_ + order.modelled_ns, Kind::moved, order.extent);
}

bool Simulator::rearm(PlacedFile&, ExtentId id, int) {
    mapped_[id] = false;
    return true;
}

}  // namespace tierd
