#include "lib/placement/placement.h"

#include "lib/base/invariant.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cmath>

namespace tierd {

namespace {

constexpr uint32_t kMapAround = 3;        // resident extents mapped after a touched one while everything fits
constexpr uint32_t kOneTouch = 1u << 16;  // 16.16 fixed point

uint32_t saturating_add(uint32_t value, uint32_t more) {
    return value > UINT32_MAX - more ? UINT32_MAX : value + more;
}

TierTable make_tiers(const PlacementConfig& config) {
    TierTable tiers(config.extent_bytes);
    for (const TierSpec& spec : config.tiers) tiers.add(spec);
    const Tier* system = tiers.find(config.system_tier);
    tiers.set_system(system != nullptr ? system->number : tiers.by_speed().front()->number);
    return tiers;
}

std::unexpected<Error> unknown_job(const char* what, uint64_t number) {
    return fail(Code::not_found, what, std::to_string(number), "finished jobs are forgotten after a while");
}

}  // namespace

Placement::Placement(const PlacementConfig& config, ExtentTable table, std::unique_ptr<Policy> policy,
                     Backend& backend, PolicyHost::Hooks hooks)
    : config_(config),
      backend_(backend),
      extents_(std::move(table)),
      tiers_(make_tiers(config)),
      policy_(std::move(policy), extents_, tiers_, backend, std::move(hooks)),
      mover_(extents_, tiers_, backend, counters_, config.extent_bytes),
      evictor_(extents_, tiers_, mover_, policy_, backend, counters_, config.extent_bytes),
      queue_(extents_),
      filler_({config.extent_bytes, config.keeps_watermark, config.io_depth}, extents_, tiers_, queue_, jobs_,
              evictor_, mover_, backend, counters_, events_),
      drainer_(extents_, tiers_, mover_, evictor_) {
    policy_.publish_tiers();
}

// --- files

Result<void> Placement::take_rows(PlacedFile& file) {
    if (extents_.take_rows(file)) return {};
    return fail(Code::no_space, "serve", file.name, "the extent table is full; use fewer or larger extents");
}

void Placement::open(PlacedFile& file, std::span<const ExtentLabel> labels) {
    extents_.add(file, labels);
    policy_.opened(file);
}

void Placement::close(PlacedFile& file) {
    invariant(file.is_idle(), "a closed file has no session and no memory");
    if (file.pinned) pinned_bytes_ -= file.memory_bytes();
    policy_.closed(file);
    extents_.remove(file);
}

void Placement::attach(PlacedFile& file, uint32_t uid, uint64_t cgroup) {
    if (file.clients++ > 0) return;
    attached_bytes_ += file.file_bytes;
    file.uid = uid;
    file.cgroup = cgroup;
    carry_out(policy_.first_session(file));
    file.first_touches.restart(file.resident_extents == 0 && file.busy_extents == 0, file.extent_count);
}

void Placement::detach(PlacedFile& file) {
    invariant(file.clients > 0, "each attach ends once");
    if (--file.clients > 0) return;
    attached_bytes_ -= file.file_bytes;
    queue_.forget_advice(file);
    carry_out(policy_.last_session(file));
}

void Placement::mark_changed(PlacedFile& file) {
    file.changed = true;
    counters_.generations_changed++;
    for (uint32_t index = 0; index < file.extent_count; index++) evictor_.start(file.first_extent + index);
}

// --- touches

void Placement::accessed(ExtentId id, Touch touch, bool foreseen) {
    PlacedFile& file = extents_.file_of(id);
    tierd_extent& row = extents_[id];
    uint64_t now = backend_.now_ns();
    const PolicyDecisions& decisions = policy_.accessed(id, touch, foreseen);
    count_heat(id, now);
    row.last_touch_ns = now;
    file.last_touch_ns = now;
    row.touches = saturating_add(row.touches, 1);
    extents_.set_flag(id, TIERD_EXTENT_UNTOUCHED, false);
    file.first_touches.add(file.index_of(id));
    policy_.recorded_access(id, touch);
    carry_out(decisions);
}

// Without observations of how long the touch took to come, heat is a decayed count of the touches that were seen.
void Placement::count_heat(ExtentId id, uint64_t now_ns) {
    HeatEstimator& heat = extents_.heat();
    tierd_extent& row = extents_[id];
    bool hinted = heat.hinted(id);
    heat.touched(id, now_ns);
    if (hinted) counters_.hints_touched++;
    HeatEstimator::Estimate estimate = heat.estimate(id, now_ns);
    if (estimate.samples == 0) {
        uint64_t age_ns = now_ns - std::min<uint64_t>(now_ns, row.last_touch_ns);
        double kept = std::exp2(-static_cast<double>(age_ns) / static_cast<double>(kHeatHalfLifeNs));
        estimate.heat = saturating_add(static_cast<uint32_t>(row.heat * kept), kOneTouch);
    }
    row.heat = estimate.heat;
    row.samples = estimate.samples;
}

void Placement::mapped_ahead(ExtentId id) {
    extents_.heat().disarm(id, backend_.now_ns());
    policy_.mapped(id);
}

void Placement::armed(ExtentId id) {
    extents_.heat().arm(id, backend_.now_ns(), true);
    policy_.armed(id);
}

// What is free is filled in the order in which the model is used to be touched.
void Placement::advise(const PlacedFile& file, uint64_t begin, uint64_t end) {
    if (!everything_fits() || !config_.read_ahead) return;
    // Each extent once is all there is to advise; a client that asks without end must not fill our memory.
    if (queue_.advice().size() >= extents_.size()) return;
    for (uint32_t index : file.order) {
        ExtentId id = file.first_extent + index;
        uint64_t offset = file.offset_of(id);
        if (offset + file.memory_of(id) > begin && offset < end) queue_.advise(id);
    }
}

ExtentId Placement::mapped_with(ExtentId id) {
    const PlacedFile& file = extents_.file_of(id);
    if (!everything_fits()) return id + 1;
    return std::min(id + 1 + kMapAround, file.first_extent + file.extent_count);
}

// --- what a policy proposes

void Placement::carry_out(const PolicyDecisions& decisions) {
    for (ExtentId id : decisions.evict) count(Proposal::evict, propose_eviction(id));
    for (Refusal refusal : mover_.propose(decisions.moves)) count(Proposal::move, refusal);
    for (size_t i = 0; i < decisions.watch.size(); i++)
        count(Proposal::watch, i < kMaxWatch ? propose_watch(decisions.watch[i]) : Refusal::too_many);
    if (!config_.read_ahead) return;
    for (ExtentId id : decisions.read_ahead) count(Proposal::read_ahead, queue_.prefetch(id));
    for (ExtentId id : decisions.speculative) count(Proposal::read_ahead, queue_.speculate(id));
}

void Placement::count(Proposal proposal, Refusal refusal) {
    policy_.count(proposal, refusal);
    bool lags_behind = refusal == Refusal::not_absent || refusal == Refusal::changed ||
                       refusal == Refusal::not_mapped || refusal == Refusal::too_many;
    if (refusal != Refusal::none && !lags_behind) counters_.decisions_refused++;
}

Refusal Placement::propose_eviction(ExtentId id) {
    if (extents_.find(id) == nullptr) return Refusal::unknown_extent;
    if (!extents_.is(id, TIERD_EXTENT_RESIDENT)) return Refusal::not_resident;
    if (!policy_.may_evict()) return Refusal::too_many;
    if (!evictor_.start(id)) return Refusal::pinned;
    policy_.count_eviction();
    return Refusal::none;
}

// Takes one page of a mapped extent out of the clients' mappings. Of small pages only: of a huge page it would cost the whole.
Refusal Placement::propose_watch(ExtentId id) {
    PlacedFile* file = extents_.find(id);
    if (file == nullptr) return Refusal::unknown_extent;
    bool mapped = extents_.is(id, TIERD_EXTENT_RESIDENT) && extents_.has_flag(id, TIERD_EXTENT_MAPPED);
    if (!mapped || !file->has_small_pages(id)) return Refusal::not_mapped;
    if (file->changed) return Refusal::changed;
    if (mover_.is_moving(id)) return Refusal::on_its_way;
    if (!backend_.rearm(*file, id, tiers_.preferred_node(extents_[id].tier))) {
        lost(id);
        return Refusal::not_mapped;
    }
    counters_.extents_watched++;
    armed(id);
    return Refusal::none;
}

// --- what the backend reports

void Placement::on_read(ExtentId id, uint64_t read_ns) {
    bool awaited = filler_.is_awaited(id);
    FillReason reason = filler_.finish(id, read_ns);
    policy_.filled(id);
    const PlacedFile& file = extents_.file_of(id);
    // What somebody asked for whole is mapped at once. What was only read ahead waits for its touch, which keeps the
    // read-ahead going; while nothing is short, that of every fourth will do.
    bool is_signal = reason == FillReason::prefetch && file.index_of(id) % 4 == 0;
    bool spared = reason != FillReason::demand && !is_signal && everything_fits();
    // A slice that was read with another of the same expert is touched next for certain.
    bool slice = !file.layout.is_even() && extents_[id].role == TIERD_ROLE_EXPERT;
    bool foreseen = reason == FillReason::prefetch && slice && !awaited;
    events_.back().map_ahead = spared || foreseen;
    events_.back().foreseen = foreseen;
}

void Placement::on_released(ExtentId id, bool was_published) {
    evictor_.on_released(id, was_published);
    filler_.on_released(id);
}

void Placement::on_moved(const MoveEnd& end) {
    Mover::Ended ended = mover_.finish(end);
    if (ended.evict) evictor_.start(end.extent, ended.not_whole);
    mover_.retry_deferred();
}

void Placement::on_policy_replies() {
    if (policy_.bpf() == nullptr) return;
    carry_out(policy_.collect());
    policy_.check();
}

void Placement::epoch() {
    policy_.begin_epoch();
    carry_out(policy_.epoch());
    policy_.check();
    update_tiers();
    counters_.epochs++;
}

// --- administrators

uint64_t Placement::evict(const PlacedFile& file) {
    uint64_t bytes = 0;
    for (ExtentId id = file.first_extent; file.contains(id); id++)
        if (evictor_.start(id)) bytes += file.bytes_in(id);
    return bytes;
}

void Placement::set_pinned(PlacedFile& file, bool pinned) {
    for (ExtentId id = file.first_extent; file.contains(id); id++)
        extents_.set_flag(id, TIERD_EXTENT_PINNED, pinned);
    if (pinned && !file.pinned) pinned_bytes_ += file.memory_bytes();
    if (!pinned && file.pinned) pinned_bytes_ -= file.memory_bytes();
    file.pinned = pinned;
}

void Placement::set_budget(uint64_t budget_bytes) {
    tiers_.resize(tiers_.system(), budget_bytes);
    // With several tiers the next epoch brings this one within its capacity.
    if (tiers_.count() == 1) evictor_.shrink_to(budget_bytes);
}

JobStatus Placement::preload(std::span<PlacedFile* const> files) {
    Job job;
    job.status.what = "preload " + files.front()->name;
    for (const PlacedFile* file : files) {
        job.status.total_bytes += file->file_bytes;
        for (uint32_t index : file->order) job.queue.push_back(file->first_extent + index);
    }
    return jobs_.add(std::move(job));
}

Result<JobStatus> Placement::job(uint64_t number) {
    update_jobs();
    const Job* job = jobs_.find(number);
    if (job == nullptr) return unknown_job("find job", number);
    return job->status;
}

void Placement::update_jobs() {
    for (auto& [number, job] : jobs_.all()) {
        if (job.status.finished || job.is_drain()) continue;
        uint64_t queued_bytes = 0;
        for (ExtentId id : job.queue)
            if (extents_.find(id) != nullptr && !extents_.is(id, TIERD_EXTENT_RESIDENT))
                queued_bytes += extents_[id].bytes;
        job.status.done_bytes = job.status.total_bytes - std::min(job.status.total_bytes, queued_bytes);
        job.status.finished = job.queue.empty() && !filler_.has_preload();
    }
}

Result<JobStatus> Placement::cancel_job(uint64_t number) {
    Job* job = jobs_.find(number);
    if (job == nullptr) return unknown_job("cancel job", number);
    if (job->status.finished) return job->status;
    job->status.error = "cancelled";
    job->queue.clear();
    if (!job->is_drain()) return job->status;
    mover_.cancel_from(job->drains);
    end_drain(*job);
    return job->status;
}

// --- tiers

uint8_t Placement::add_tier(TierSpec spec) {
    uint8_t number = tiers_.add(std::move(spec));
    if (number != kNoTier) tier_changed(number);
    return number;
}

void Placement::resize_tier(uint8_t number, uint64_t capacity_bytes) {
    tiers_.resize(number, capacity_bytes);
    tier_changed(number);
}

void Placement::reopen_tier(uint8_t number) {
    tiers_.close(number, false);
    tier_changed(number);
}

JobStatus Placement::drain_tier(uint8_t number, bool remove) {
    const Tier& tier = *tiers_.find(number);
    tiers_.close(number, true);
    Job job;
    job.status.what = (remove ? "remove " : "drain ") + tier.spec.name;
    job.status.total_bytes = tier.used_bytes();
    job.drains = number;
    job.removes = remove;
    JobStatus status = jobs_.add(std::move(job));
    tier_changed(number);
    return status;
}

void Placement::end_drain(Job& job) {
    uint8_t number = std::exchange(job.drains, kNoTier);
    job.status.finished = true;
    if (!job.status.error.empty()) tiers_.close(number, false);
    if (job.status.error.empty() && job.removes) {
        spdlog::info("tier {} is removed", tiers_.find(number)->spec.name);
        tiers_.remove(number);
    }
    tier_changed(number);
}

// The policy learns of it at once, before anything is placed by the new state.
void Placement::tier_changed(uint8_t tier) {
    carry_out(policy_.tier_changed(tier));
    epoch_due_ns_ = backend_.now_ns();
}

// Every epoch. With one tier there is nothing to do but what set_budget() has done.
void Placement::update_tiers() {
    if (tiers_.count() < 2) return;
    mover_.drop_stale();
    for (Tier* tier : tiers_.by_speed()) {
        uint64_t free = tier->account.free_bytes();
        if (tier->used_bytes() > tier->capacity_bytes())
            drainer_.shrink(*tier, tier->used_bytes() - tier->capacity_bytes());
        // An exchange that was broken off may have left its room taken.
        else if (free < config_.extent_bytes && mover_.is_idle() && evictor_.evicting_bytes() == 0)
            evictor_.evict_by_age(config_.extent_bytes - free, tier->number);
    }
    for (auto& [number, job] : jobs_.all())
        if (job.is_drain() && !job.status.finished && !drainer_.step(job, filler_.is_reading()))
            end_drain(job);
    mover_.bring_near();
}

// --- the policy

Result<void> Placement::install_policy(const NewPolicy& policy) {
    if (auto installed = policy_.install(policy); !installed) return installed;
    for (const PlacedFile* file : extents_.slots())
        if (file != nullptr && file->clients > 0) carry_out(policy_.introduce(*file));
    return {};
}

}  // namespace tierd
