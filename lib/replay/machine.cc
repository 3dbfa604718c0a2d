#include "lib/replay/machine.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace tierd {
namespace {

constexpr uint64_t kHalfLifeNs = 10 * kNsPerSecond;  // of heat, as in tierd
constexpr uint32_t kOneTouch = 1u << 16;
constexpr size_t kMaxAhead = 256;  // as in tierd
constexpr size_t kMaxMoves = TIERD_MAX_DECISIONS;
constexpr uint64_t kStartNs = kNsPerSecond;  // so that 0 stays "never"

uint32_t decayed(uint32_t heat, uint64_t age_ns) {
    return static_cast<uint32_t>(heat *
                                 std::exp2(-static_cast<double>(age_ns) / static_cast<double>(kHalfLifeNs)));
}

uint32_t saturating_add(uint32_t value, uint64_t more) {
    return static_cast<uint32_t>(std::min<uint64_t>(value + more, UINT32_MAX));
}

}  // namespace

std::string_view refusal_name(Refusal refusal) noexcept {
    switch (refusal) {
        case Refusal::no_such_extent:
            return "no such extent";
        case Refusal::wrong_state:
            return "not in a state for it";
        case Refusal::no_such_tier:
            return "no such tier";
        case Refusal::no_room:
            return "no room, and nothing worth less";
        case Refusal::too_many:
            return "too many at once";
        case Refusal::not_admitted:
            return "refused by the policy's own admit";
    }
    return "?";
}

Machine::Machine(const Script& script, const ReplayTiers& tiers, ReplayTables tables, Policy& policy,
                 bool ideal)
    : script_(script), setting_(tiers), tables_(tables), policy_(policy), ideal_(ideal), now_ns_(kStartNs) {
    std::ranges::copy(setting_.tiers, tables_.tiers.begin() + 1);
    evicting_bytes_.assign(setting_.tiers.size() + 1, 0);
    readers_.resize(script.readers.size());
    for (const ScriptModel& model : script.models) {
        result_.models.push_back({model.facts->name, model.facts->uid, {}});
        for (const TraceRun& run : model.facts->runs) longest_bytes_ = std::max(longest_bytes_, run.bytes);
    }
    result_.policy = policy.name();
    result_.capacity_bytes = tiers.capacity_bytes();
}

Result<ReplayResult> Machine::run() {
    bool fits = std::ranges::any_of(setting_.tiers,
                                    [&](auto& tier) { return tier.capacity_bytes >= longest_bytes_; });
    if (!fits) return fail(Code::bad_input, "replay the trace: an extent is larger than every tier");
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
        pump();
    }
    result_.total_ns = now_ns_ - kStartNs;
    for (const ModelResult& model : result_.models) result_.all += model.counts;
    return result_;
}

PolicyView Machine::view(ExtentId wanted) const {
    PolicyTier all{.capacity_bytes = result_.capacity_bytes, .used_bytes = 0};
    for (const tierd_tier_info& tier : tables_.tiers) all.used_bytes += tier.used_bytes;
    return {.extents = tables_.extents,
            .dram = all,
            .now_ns = now_ns_,
            .tiers = tables_.tiers.first(setting_.tiers.size() + 1),
            .models = static_cast<uint32_t>(script_.models.size()),
            .wanted = wanted};
}

void Machine::plan(uint64_t time_ns, Kind kind, uint32_t id) {
    events_.push({time_ns, planned_++, kind, id});
}

void Machine::on_event(const Event& event) {
    switch (event.kind) {
        case Kind::open:
            return on_open(event.id);
        case Kind::touch:
            return on_touch(event.id);
        case Kind::filled:
            return on_filled(event.id);
        case Kind::evicted:
            return on_evicted(event.id);
        case Kind::moved:
            return on_moved(event.id);
        case Kind::epoch:
            return on_epoch();
    }
}

void Machine::on_open(uint32_t reader) {
    const ScriptReader& script = script_.readers[reader];
    const ScriptModel& model = script_.models[script.model];
    tierd_model& row = tables_.models[script.model];
    if (row.extent_count == 0) {
        row = model_row(model);
        fill_rows(model, script.model, tables_.extents);
        policy_.model_open(view(), {.model = script.model,
                                    .first_extent = model.first_extent,
                                    .extent_count = model.extent_count,
                                    .extent_bytes = longest_bytes_,
                                    .file_bytes = model.bytes,
                                    .order = model.order,
                                    .order_learned = model.facts->order_learned,
                                    .name = model.facts->name,
                                    .uid = model.facts->uid,
                                    .cgroup = model.facts->cgroup});
    }
    row.sessions = 1;
    decisions_.clear();
    policy_.first_session(view(), script.model, decisions_);
    take();
    if (script.touches.empty()) return finish(script.model);
    plan(now_ns_ + script.touches.front().think_ns, Kind::touch, reader);
}

void Machine::on_touch(uint32_t reader) {
    const ScriptReader& script = script_.readers[reader];
    ExtentId id = script_.models[script.model].first_extent + script.touches[readers_[reader].next].index;
    tierd_extent& row = tables_.extents[id];
    ReplayCounts& counts = counts_of(id);
    counts.touches++;
    bool found = row.state == TIERD_EXTENT_RESIDENT;
    bool seen = !found || (row.flags & TIERD_EXTENT_MAPPED) == 0 || ideal_;
    bool sampled = setting_.sample_every > 0 && ++sampled_ % setting_.sample_every == 0;
    if (seen) note(row, 1, true);
    if (!seen && sampled) note(row, setting_.sample_every, false);
    if (found) {
        counts.found++;
        if (tables_.tiers[row.tier].rank == 0) counts.found_fast++;
        row.flags |= TIERD_EXTENT_MAPPED;
    } else {
        waiters_[id].push_back(reader);
        readers_[reader].asked_ns = now_ns_;
        if (row.state == TIERD_EXTENT_ABSENT) {
            row.state = TIERD_EXTENT_QUEUED;
            demand_.push_back(id);
        }
    }
    if (seen) {
        tables_.models[script.model].last_touch_ns = now_ns_;
        decisions_.clear();
        policy_.fault(view(), id, found ? Touch::minor : Touch::missing, decisions_);
        take();
    }
    if (found) serve(reader, now_ns_);
}

// The reader goes on: it reads the extent where it lies, computes, and touches the next.
void Machine::serve(uint32_t reader, uint64_t asked_ns) {
    const ScriptReader& script = script_.readers[reader];
    const ScriptTouch& touch = script.touches[readers_[reader].next++];
    const tierd_extent& row = tables_.extents[script_.models[script.model].first_extent + touch.index];
    uint64_t fastest_ns = UINT64_MAX;
    for (const tierd_tier_info& tier : setting_.tiers)
        if (tier.rank == 0) fastest_ns = transfer_ns(row.bytes, tier.bandwidth_bytes_per_s);
    uint64_t here_ns = transfer_ns(row.bytes, tables_.tiers[row.tier].bandwidth_bytes_per_s);
    uint64_t slow_ns = here_ns - std::min(here_ns, fastest_ns);
    result_.models[script.model].counts.stall_ns += now_ns_ - asked_ns + slow_ns;
    if (readers_[reader].next == script.touches.size()) return finish(script.model);
    plan(now_ns_ + slow_ns + script.touches[readers_[reader].next].think_ns, Kind::touch, reader);
}

// The model's reader is done. What it left in memory stays until somebody needs the room.
void Machine::finish(uint32_t model) {
    running_--;
    tables_.models[model].sessions = 0;
    decisions_.clear();
    policy_.last_session(view(), model, decisions_);
    take();
}

// `seen`: a fault showed it; else it is a sample that stands for so many touches.
void Machine::note(tierd_extent& row, uint32_t touches, bool seen) {
    row.heat = saturating_add(decayed(row.heat, now_ns_ - row.last_touch_ns), uint64_t{touches} * kOneTouch);
    row.last_touch_ns = now_ns_;
    row.touches = saturating_add(row.touches, touches);
    row.samples = static_cast<uint16_t>(std::min<uint32_t>(row.samples + 1u, UINT16_MAX));
    if (seen) row.flags &= static_cast<uint8_t>(~TIERD_EXTENT_UNTOUCHED);
}

void Machine::on_epoch() {
    decisions_.clear();
    policy_.epoch(view(), decisions_);
    take();
    plan(now_ns_ + setting_.epoch_ns, Kind::epoch, 0);
}

void Machine::wish(ExtentId id) {
    if (!known(id) || tables_.extents[id].state != TIERD_EXTENT_ABSENT) return;
    if (ahead_.size() >= kMaxAhead)
        refuse(Refusal::too_many);
    else if (std::ranges::find(ahead_, id) == ahead_.end())
        ahead_.push_back(id);
}

// Carries out what the policy proposed, where it may be.
void Machine::take() {
    for (ExtentId id : decisions_.evict)
        if (known(id) && !start_eviction(id)) refuse(Refusal::wrong_state);
    for (ExtentId id : decisions_.watch)
        if (known(id)) tables_.extents[id].flags &= static_cast<uint8_t>(~TIERD_EXTENT_MAPPED);
    for (ExtentId id : decisions_.read_ahead) wish(id);
    for (ExtentId id : decisions_.guesses) wish(id);
    for (const ProposedMove& move : decisions_.moves) {
        if (!known(move.extent)) continue;
        if (move.tier == TIERD_NO_TIER || move.tier > setting_.tiers.size())
            refuse(Refusal::no_such_tier);
        else if (moves_.size() >= kMaxMoves)
            refuse(Refusal::too_many);
        else
            moves_.push_back(move);
    }
}

}  // namespace tierd
