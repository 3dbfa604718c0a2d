// core_policy.cc - the engine's thread, between the policy's proposals and what is done of them; and the policy's coming
// and going.
#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <algorithm>
#include <bit>

#include "lib/base/bytes.h"
#include "lib/base/clock.h"
#include "lib/engine/core.h"

namespace tierd {

namespace {

constexpr size_t kMaxAhead = 256;  // read-ahead wishes kept; those that come too many are forgotten
constexpr uint32_t kMaxEvictionsInEpoch =
    1024;  // that a policy may propose: each unmaps an extent from every session
constexpr uint32_t kLeastRows = 64 * 1024;

}  // namespace

// --- what a policy proposes

void Core::take_decisions() {
    if (observer_) observer_->proposed(view(), decisions_);
    for (ExtentId id : decisions_.evict) count_decision(Proposal::evict, propose_eviction(id));
    propose_moves();
    for (size_t i = 0; i < decisions_.watch.size(); i++)
        count_decision(Proposal::watch,
                       i < kMaxWatch ? watch_extent(decisions_.watch[i]) : Refusal::too_many);
    if (!config_.read_ahead) return;
    for (ExtentId id : decisions_.read_ahead)
        count_decision(Proposal::read_ahead, propose_read_ahead(id, ahead_));
    for (ExtentId id : decisions_.guesses)
        count_decision(Proposal::read_ahead, propose_read_ahead(id, guesses_));
}

void Core::count_decision(Proposal proposal, Refusal refusal) {
    record_.decisions.count(proposal, refusal);
    bool lags_behind = refusal == Refusal::not_absent || refusal == Refusal::changed ||
                       refusal == Refusal::not_mapped || refusal == Refusal::too_many;
    if (refusal != Refusal::none && !lags_behind) counters_.decisions_refused++;
}

Refusal Core::propose_eviction(ExtentId id) {
    if (owner_of(id) == nullptr) return Refusal::unknown_extent;
    if (table_[id].state != TIERD_EXTENT_RESIDENT) return Refusal::not_resident;
    if (record_.evictions_in_epoch >= kMaxEvictionsInEpoch) return Refusal::too_many;
    if (!start_eviction(id)) return Refusal::pinned;
    record_.evictions_in_epoch++;
    return Refusal::none;
}

// What was wished for first is touched first: the surplus is what comes last.
Refusal Core::propose_read_ahead(ExtentId id, std::deque<ExtentId>& queue) {
    WeightFile* file = owner_of(id);
    if (file == nullptr) return Refusal::unknown_extent;
    if (file->changed) return Refusal::changed;
    if (table_[id].state != TIERD_EXTENT_ABSENT) return Refusal::not_absent;
    if (std::find(queue.begin(), queue.end(), id) != queue.end()) return Refusal::not_absent;
    if (queue.size() >= kMaxAhead) return Refusal::too_many;
    queue.push_back(id);
    return Refusal::none;
}

// Takes one page of a mapped extent out of the clients' mappings. Of small pages only: of a huge page it would
// cost the whole.
Refusal Core::watch_extent(ExtentId id) {
    WeightFile* file = owner_of(id);
    if (file == nullptr) return Refusal::unknown_extent;
    bool mapped = table_[id].state == TIERD_EXTENT_RESIDENT && (table_[id].flags & TIERD_EXTENT_MAPPED) != 0;
    if (!mapped || !file->has_small_pages(id)) return Refusal::not_mapped;
    if (file->changed) return Refusal::changed;
    if (moves_.contains(id)) return Refusal::on_its_way;
    PreferNode prefer(preferred_node(table_[id].tier));
    if (auto renewed = file->arena.renew_page(file->offset_of(id)); !renewed) {
        spdlog::warn("{}: the extent will be read again", renewed.error().text());
        start_eviction(id, true);
        return Refusal::not_mapped;
    }
    counters_.extents_watched++;
    heat_.expose(id, monotonic_ns(), true);
    return Refusal::none;
}

// --- what a policy sees

void Core::publish_model(const WeightFile& file) {
    if (!record_.tables) return;
    tierd_model& row = record_.tables->models()[file.slot];
    row.first_extent = file.first_extent;
    row.extent_count = file.extent_count;
    row.bytes = file.memory_bytes();
    row.resident_bytes = file.resident_bytes;
    row.last_touch_ns = file.last_touch_ns;
    row.cgroup = file.cgroup;
    row.uid = file.uid;
    row.sessions = file.clients;
    row.experts = file.experts;
    row.layers = file.layers;
    row.order_learned = file.order_learned ? 1 : 0;
    put_name(file.name, row.name);
}

void Core::publish_usage() {
    if (!record_.tables) return;
    for (auto& [number, file] : files_) {
        tierd_model& row = record_.tables->models()[file->slot];
        row.resident_bytes = file->resident_bytes;
        row.last_touch_ns = file->last_touch_ns;
        row.sessions = file->clients;
    }
    show_tiers();
    for (uint8_t number = 1; number < TIERD_MAX_TIERS; number++)
        record_.tables->tiers()[number] = tier_infos_[number];
}

void Core::tell_first_session(WeightFile& file, const Client& client) {
    file.uid = client.peer.uid;
    file.cgroup = client.cgroup;
    publish_model(file);
    decisions_.clear();
    policy_->first_session(view(), file.slot, decisions_);
    if (observer_) observer_->first_session(view(), file.slot, file.uid, file.cgroup);
    take_decisions();
}

void Core::tell_last_session(WeightFile& file) {
    publish_model(file);
    decisions_.clear();
    policy_->last_session(view(), file.slot, decisions_);
    if (observer_) observer_->last_session(view(), file.slot);
    take_decisions();
}

// --- a policy comes, and goes

Core::PolicyRoom Core::policy_room() {
    uint32_t rows = std::bit_ceil(std::max(kLeastRows, table_.size() + table_.size() / 4));
    PolicyRoom room{.tables = record_.tables, .rows = rows, .view = view()};
    if (room.tables && room.tables->room() < table_.size()) room.tables = nullptr;
    return room;
}

Result<void> Core::share_tables(std::shared_ptr<BpfTables> tables) {
    if (tables == record_.tables) return {};
    if (record_.tables && tables->room() < record_.tables->room())
        return fail(Code::busy, "load the policy", {}, "the extent table grew meanwhile; try again");
    if (auto shared = table_.share(*tables); !shared) return shared;
    record_.tables = std::move(tables);
    for (auto& [number, file] : files_) publish_model(*file);
    publish_usage();
    return {};
}

Result<void> Core::install_policy(const NewPolicy& policy) {
    const auto& object = policy.object;
    if (stopping_) return fail(Code::busy, "load the policy", object->name(), "tierd is shutting down");
    if (policy.is_reload && (record_.bpf == nullptr || record_.bpf->name() != object->name()))
        return fail(Code::not_found, "reload the policy", object->name(), "it went meanwhile");
    if (auto shared = share_tables(object->shared_tables()); !shared) return shared;
    auto runner = run_on_thread(
        object, [mailbox = mailbox_] { mailbox->post([](Core& core) { core.on_policy_news(); }); });
    // The built-in policy goes on behind the object, with all that it knows.
    auto built_in = record_.bpf != nullptr ? record_.bpf->take_built_in() : std::move(policy_);
    auto made = std::make_unique<BpfPolicy>(object, std::move(runner), std::move(built_in));
    BpfPolicy* bpf = made.get();
    put_in_place(std::move(made), bpf);
    record_.init_log = policy.log;
    policy.is_reload ? record_.reloads++ : record_.loads++;
    record_.growing = false;
    for (auto& [number, file] : files_) {
        if (file->clients == 0) continue;
        decisions_.clear();
        policy_->first_session(view(), file->slot, decisions_);
        take_decisions();
    }
    spdlog::info("policy {} decides now", object->name());
    return {};
}

// The old one goes here; its thread runs its tierd/exit.
void Core::put_in_place(std::unique_ptr<Policy> policy, BpfPolicy* bpf) {
    policy_ = std::move(policy);
    record_.bpf = bpf;
    record_.decisions = {};
    record_.loaded_at_ns = monotonic_ns();
}

Result<void> Core::unload_policy() {
    if (record_.bpf == nullptr)
        return fail(Code::not_found, "unload the policy", {},
                    fmt::format("none is loaded: {} decides", policy_->name()));
    spdlog::info("policy {} is taken back", record_.bpf->name());
    put_in_place(record_.bpf->take_built_in(), nullptr);
    return {};
}

void Core::eject_policy(const std::string& reason) {
    record_.ejections++;
    record_.ejected = record_.bpf->name();
    record_.ejected_reason = reason;
    put_in_place(record_.bpf->take_built_in(), nullptr);
    spdlog::error("policy {} had to go: {}; {} decides now", record_.ejected, reason, policy_->name());
}

void Core::check_policy() {
    if (record_.bpf == nullptr) return;
    if (std::string objection = record_.bpf->objection(); !objection.empty()) eject_policy(objection);
}

// A policy that went meanwhile has nothing more to say: its replies went with it.
void Core::on_policy_news() {
    if (record_.bpf == nullptr) return;
    decisions_.clear();
    policy_->collect(view(), decisions_);
    take_decisions();
    check_policy();
}

void Core::begin_policy_epoch() {
    record_.evictions_in_epoch = 0;
    publish_usage();
    tend_leases();
    grow_if_needed();
    if (observer_) observer_->epoch(view());
}

// Rows beyond what the programs see are served as any other; the policy is loaded again with room for them.
void Core::grow_if_needed() {
    if (record_.bpf == nullptr || record_.growing || table_.size() <= record_.tables->room()) return;
    record_.growing = true;
    grow_policy_();
}

PolicyStatus Core::policy() const {
    PolicyStatus status;
    status.name = policy_->name();
    status.built_in = config_.policy;
    status.loads = record_.loads;
    status.reloads = record_.reloads;
    status.ejections = record_.ejections;
    status.ejected = record_.ejected;
    status.ejected_reason = record_.ejected_reason;
    status.rows = table_.size();
    status.room = record_.tables ? record_.tables->room() : 0;
    for (size_t i = 0; i < kProposalNames.size(); i++)
        status.accepted.push_back({kProposalNames[i], record_.decisions.accepted[i]});
    for (size_t i = 1; i < kRefusalNames.size(); i++)
        if (record_.decisions.refused[i] > 0)
            status.refused.push_back({kRefusalNames[i], record_.decisions.refused[i]});
    if (record_.bpf != nullptr) describe_object(status);
    return status;
}

void Core::describe_object(PolicyStatus& status) const {
    const BpfObject& object = record_.bpf->object();
    PolicyStats stats = record_.bpf->stats();
    status.loaded = true;
    status.licence = object.summary().licence;
    status.loaded_for_ns = monotonic_ns() - record_.loaded_at_ns;
    status.verified_instructions = object.verified_insns();
    status.map_bytes = object.own_map_bytes();
    status.calls_dropped = stats.calls_dropped;
    status.log = record_.init_log;
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
    add("no room in the answer", stats.no_room);
    add("unknown kind", record_.bpf->unknown_kinds());
}

}  // namespace tierd
