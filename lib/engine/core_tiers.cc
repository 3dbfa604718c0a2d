// core_tiers.cc - the engine's thread: memory tiers that come, grow, shrink, are emptied and go.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <algorithm>

#include "lib/base/bytes.h"
#include "lib/base/clock.h"
#include "lib/engine/core.h"

namespace tierd {

namespace {

constexpr size_t kDrainMoves = 32;           // of a drain, under way at once
constexpr uint32_t kDrainRows = 256 * 1024;  // looked at in an epoch
constexpr uint32_t kDrainPriority = 1;       // after promotions that somebody waits for

std::unexpected<Error> unknown_tier(const TierTable& tiers, const std::string& name) {
    std::vector<std::string> names;
    for (const Tier* tier : tiers.by_speed()) names.push_back(tier->spec.name);
    return fail(Code::not_found, "find tier", name, fmt::format("the tiers are {}", fmt::join(names, ", ")));
}

}  // namespace

// What policies see.
void Core::show_tiers() {
    tiers_shown_ = 1;
    for (uint8_t number = 1; number < TIERD_MAX_TIERS; number++) {
        const Tier* tier = tiers_.find(number);
        tier_infos_[number] = {};
        if (tier == nullptr) continue;
        tiers_shown_ = number + size_t{1};
        tierd_tier_info& info = tier_infos_[number];
        info.capacity_bytes = tier->capacity_bytes();
        info.used_bytes = tier->used_bytes();
        info.bandwidth_bytes_per_s = tier->spec.bandwidth_bytes_per_s;
        info.latency_ns = static_cast<uint32_t>(std::min<uint64_t>(tier->spec.latency_ns, UINT32_MAX));
        info.kind = static_cast<uint8_t>(tier->spec.kind);
        info.rank = tier->rank;
        info.draining = tier->closed ? 1 : 0;
        put_name(tier->spec.name, info.name);
    }
}

TierStatus Core::describe(const Tier& tier) const {
    bool draining = std::ranges::any_of(
        jobs_, [&](auto& job) { return job.second.drains == tier.number && !job.second.status.finished; });
    return {.number = tier.number,
            .name = tier.spec.name,
            .kind = std::string(tier_kind_name(tier.spec.kind)),
            .capacity_bytes = tier.capacity_bytes(),
            .used_bytes = tier.used_bytes(),
            .nodes = tier.spec.nodes,
            .latency_ns = tier.spec.latency_ns,
            .bandwidth_bytes_per_s = tier.spec.bandwidth_bytes_per_s,
            .figures = std::string(figure_source_name(tier.spec.source)),
            .state = draining      ? "draining"
                     : tier.closed ? "closed"
                                   : "open"};
}

// Every epoch. With one tier there is nothing to do but what set_budget() has done.
void Core::tend_tiers() {
    if (tiers_.count() < 2) return;
    if (moves_.empty()) deferred_moves_.clear();
    for (Tier* tier : tiers_.by_speed()) {
        uint64_t free = tier->account.free_bytes();
        if (tier->used_bytes() > tier->capacity_bytes())
            shrink_tier(*tier, tier->used_bytes() - tier->capacity_bytes());
        // An exchange that was broken off may have left its room taken.
        else if (free < config_.extent_bytes && moves_.empty() && evicting_bytes_ == 0)
            evict_by_age(config_.extent_bytes - free, tier->number);
    }
    for (auto& [number, job] : jobs_)
        if (job.drains != kNoTier && !job.status.finished && !drain_some(job)) finish_drain(job);
    bring_near();
    check_placements();
}

// Moves the oldest of the tier to where there is room, and drops what finds none. Returns what is on its way out.
uint64_t Core::shrink_tier(Tier& tier, uint64_t bytes) {
    uint64_t leaving = 0;
    for (auto& [id, move] : moves_)
        if (move.from == tier.number) leaving += file_of(id).memory_of(id);
    leaving += evicting_bytes_;
    if (leaving >= bytes) return leaving;
    for (ExtentId id = 0; id < table_.size() && leaving < bytes; id++) {
        if (table_[id].tier != tier.number || table_[id].state != TIERD_EXTENT_RESIDENT ||
            moves_.contains(id))
            continue;
        for (Tier* other : tiers_.by_speed())
            if (other->rank > tier.rank && start_move(id, other->number, kDrainPriority) == Refusal::none)
                break;
        if (moves_.contains(id)) leaving += table_[id].bytes;
    }
    return leaving < bytes ? leaving + evict_by_age(bytes - leaving, tier.number) : leaving;
}

uint64_t Core::pinned_in(uint8_t tier) {
    uint64_t bytes = 0;
    for (ExtentId id = 0; id < table_.size(); id++)
        if (table_[id].tier == tier && (table_[id].flags & TIERD_EXTENT_PINNED) != 0)
            bytes += table_[id].bytes;
    return bytes;
}

// The policy hears of it at once, before anything is placed by the new state.
void Core::tell_policy(uint8_t tier) {
    decisions_.clear();
    policy_->tier_change(view(), tier, decisions_);
    take_decisions();
    next_epoch_ns_ = monotonic_ns();
}

Core::Job* Core::drain_of(uint8_t tier) {
    for (auto& [number, job] : jobs_)
        if (job.drains == tier && !job.status.finished) return &job;
    return nullptr;
}

Result<JobStatus> Core::drain_tier(const std::string& name, bool remove) {
    Tier* tier = tiers_.find(name);
    if (tier == nullptr) return unknown_tier(tiers_, name);
    const char* what = remove ? "remove tier" : "drain tier";
    if (remove && tier->number == system_tier_)
        return fail(Code::bad_input, what, name,
                    "it is the machine's own memory: lower it with `tierctl budget`");
    if (Job* job = drain_of(tier->number))
        return fail(Code::busy, what, name, fmt::format("job {} does so already", job->status.job));
    if (!tier->closed && tiers_.open_count() == 1)
        return fail(Code::no_space, what, name,
                    fmt::format("it is the only open memory tier and holds {}: add another tier first",
                                format_bytes(tier->used_bytes())));
    uint64_t pinned = pinned_in(tier->number);
    uint64_t elsewhere = tiers_.free_bytes() - tiers_.room_in(*tier);
    if (pinned > elsewhere)
        return fail(
            Code::no_space, what, name,
            fmt::format(
                "{} in it are pinned and the other tiers have room for {}: unpin, or give another tier more",
                format_bytes(pinned), format_bytes(elsewhere)));
    tiers_.close(tier->number, true);
    Job job;
    job.status.job = next_job_++;
    job.status.what = (remove ? "remove " : "drain ") + name;
    job.status.total_bytes = tier->used_bytes();
    job.drains = tier->number;
    job.removes = remove;
    JobStatus status = job.status;
    jobs_[status.job] = std::move(job);
    tell_policy(tier->number);
    return status;
}

// Sends more of it away. False when that is over: nothing is left, or what is left can't go.
bool Core::drain_some(Job& job) {
    Tier& tier = *tiers_.find(job.drains);
    uint64_t used = tier.used_bytes();
    job.status.total_bytes = std::max(job.status.total_bytes, used);
    job.status.done_bytes = job.status.total_bytes - used;
    if (used == 0) return false;
    for (uint32_t looked = 0; looked < kDrainRows && moves_.size() < kDrainMoves; looked++) {
        if (job.next >= table_.size()) return next_pass(job);
        ExtentId id = job.next++;
        const tierd_extent& row = table_[id];
        if (row.tier != tier.number || row.state != TIERD_EXTENT_RESIDENT || moves_.contains(id)) continue;
        bool went = false;
        for (Tier* other : tiers_.by_speed())
            went = went || start_move(id, other->number, kDrainPriority) == Refusal::none;
        went = went || start_eviction(id);
        (went ? job.leaving : job.stuck) += row.bytes;
    }
    return true;
}

// The whole table was looked at. False when nothing went, and nothing is on its way: then nothing ever will.
bool Core::next_pass(Job& job) {
    bool goes_on = job.leaving > 0 || !moves_.empty() || evicting_bytes_ > 0 || reads_in_flight_ > 0;
    if (!goes_on)
        job.status.error = fmt::format(
            "{} are pinned and find no room in another tier: unpin them, or give another tier more",
            format_bytes(job.stuck));
    job.next = 0;
    job.leaving = job.stuck = 0;
    return goes_on;
}

void Core::finish_drain(Job& job) {
    uint8_t number = std::exchange(job.drains, kNoTier);
    job.status.finished = true;
    if (!job.status.error.empty()) tiers_.close(number, false);
    if (job.status.error.empty() && job.removes) {
        spdlog::info("tier {} is gone", tiers_.find(number)->spec.name);
        tiers_.remove(number);
    }
    tell_policy(number);
}

Result<JobStatus> Core::cancel_job(uint64_t number) {
    auto found = jobs_.find(number);
    if (found == jobs_.end())
        return fail(Code::not_found, "cancel job", std::to_string(number),
                    "finished jobs are forgotten after a while");
    Job& job = found->second;
    if (job.status.finished) return job.status;
    job.status.error = "cancelled";
    job.queue.clear();
    if (job.drains == kNoTier) return job.status;
    for (auto& [id, move] : moves_)
        if (move.from == job.drains) migrator().cancel(id);
    finish_drain(job);
    return job.status;
}

Result<TierStatus> Core::add_tier(const TierOverride& said, const Topology& topology) {
    if (Tier* known = tiers_.find(said.name)) {
        if (drain_of(known->number) != nullptr || !known->closed)
            return fail(Code::bad_input, "add tier", said.name,
                        "there is one of that name: resize it, or let its drain end");
        tiers_.close(known->number, false);
        tell_policy(known->number);
        return describe(*known);
    }
    auto found = class_tiers(topology, 0, config_.tier_share_percent, {});
    std::erase_if(found, [&](const TierSpec& spec) {
        return std::ranges::any_of(spec.nodes,
                                   [&](int node) { return tiers_.find_by_node(node) != nullptr; });
    });
    auto merged = merge_tiers(std::move(found), std::span(&said, 1), topology);
    if (!merged) return fail(Code::bad_input, "add tier", said.name, merged.error().hint);
    TierSpec spec = *std::ranges::find(*merged, said.name, &TierSpec::name);
    for (int node : spec.nodes)
        if (const Tier* owner = tiers_.find_by_node(node))
            return fail(Code::bad_input, "add tier", said.name,
                        fmt::format("node {} belongs to tier {} already", node, owner->spec.name));
    uint64_t least = kMinBudgetExtents * config_.extent_bytes;
    if (spec.capacity_bytes < least)
        return fail(Code::bad_input, "add tier", said.name,
                    fmt::format("give at least {}", format_bytes(least)));
    uint8_t number = tiers_.add(std::move(spec));
    if (number == kNoTier)
        return fail(Code::no_space, "add tier", said.name, "there are 15 tiers: remove one");
    spdlog::info("tier {} of {}", said.name, format_bytes(tiers_.find(number)->capacity_bytes()));
    tell_policy(number);
    return describe(*tiers_.find(number));
}

Result<TierStatus> Core::resize_tier(const std::string& name, uint64_t capacity_bytes,
                                     const Topology& topology) {
    Tier* tier = tiers_.find(name);
    if (tier == nullptr) return unknown_tier(tiers_, name);
    TierSpec wanted = tier->spec;
    wanted.capacity_bytes = capacity_bytes;
    if (auto fits = check_tier(wanted, topology); !fits) return std::unexpected(fits.error());
    if (tier->number == system_tier_) {
        if (auto set = set_budget(capacity_bytes); !set) return std::unexpected(set.error());
    }
    uint64_t least = std::max(kMinBudgetExtents * config_.extent_bytes, pinned_in(tier->number));
    if (capacity_bytes < least)
        return fail(Code::bad_input, "resize tier", name,
                    fmt::format("give at least {}, or drain it", format_bytes(least)));
    tiers_.resize(tier->number, capacity_bytes);
    tell_policy(tier->number);
    return describe(*tier);
}

// The kernel had news of memory. The machine is looked at on another thread; news that come meanwhile make it look again.
void Core::watch_memory() {
    if (!config_.follow_memory) return;
    memory_->post([mailbox = mailbox_] {
        mailbox->post([topology = read_topology()](Core& core) { core.on_topology(topology); });
    });
}

void Core::on_topology(const Topology& topology) {
    suspect_placements();
    std::vector<std::string> gone;
    for (Tier* tier : tiers_.by_speed()) {
        if (tier->spec.nodes.empty() || tier->number == system_tier_) continue;
        uint64_t memory = 0;
        for (int node : tier->spec.nodes)
            if (const MemoryNode* there = topology.find(node)) memory += there->total_bytes;
        if (memory == 0 && drain_of(tier->number) == nullptr) gone.push_back(tier->spec.name);
        if (memory > 0 && memory < tier->capacity_bytes()) {
            spdlog::warn("tier {} shrinks to {} with its memory", tier->spec.name, format_bytes(memory));
            tiers_.resize(tier->number, memory / 100 * config_.tier_share_percent);
        }
        tier->spec.memory_bytes = memory;
    }
    for (const std::string& name : gone) {
        spdlog::warn(
            "the memory of tier {} is gone: what the kernel moved elsewhere counts there, or is dropped",
            name);
        if (auto job = drain_tier(name, true); !job) spdlog::warn("{}", job.error().text());
    }
    for (const TierSpec& spec : class_tiers(topology, 0, config_.tier_share_percent, {})) {
        bool known =
            spec.nodes.empty() || spec.name == "dram0" || tiers_.find(spec.name) != nullptr ||
            std::ranges::any_of(spec.nodes, [&](int n) { return tiers_.find_by_node(n) != nullptr; });
        if (known) continue;
        if (auto added = add_tier({.name = spec.name}, topology); !added)
            spdlog::warn("{}", added.error().text());
    }
}

}  // namespace tierd
