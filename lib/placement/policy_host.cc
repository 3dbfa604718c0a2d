#include "lib/placement/policy_host.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <bit>

namespace tierd {

namespace {

constexpr uint32_t kMaxEvictionsInEpoch = 1024;  // proposed ones: each unmaps an extent from every session
constexpr uint32_t kLeastRows = 64 * 1024;

std::unexpected<Error> no_recording() {
    return fail(Code::not_found, "fetch the trace", {},
                "nothing is being recorded; a recording that is not fetched ends after 30 s");
}

}  // namespace

PolicyHost::PolicyHost(std::unique_ptr<Policy> policy, Extents& extents, TierTable& tiers, Backend& backend,
                       Hooks hooks)
    : policy_(std::move(policy)),
      extents_(extents),
      tiers_(tiers),
      backend_(backend),
      hooks_(std::move(hooks)) {}

PolicyDecisions& PolicyHost::fresh() {
    decisions_.clear();
    return decisions_;
}

// --- what happens

void PolicyHost::opened(const PlacedFile& file) {
    publish_file(file);
    PolicyModel model = as_policy_model(file);
    policy_->model_open(view(), model);
    if (recorder_) recorder_->model_opened(view(), model);
    grow_if_needed();
}

void PolicyHost::closed(const PlacedFile& file) {
    policy_->model_close(view(), file.slot);
    if (recorder_) recorder_->model_closed(view(), file.slot);
    if (tables_) tables_->models()[file.slot] = {};
}

const PolicyDecisions& PolicyHost::first_session(PlacedFile& file) {
    publish_file(file);
    policy_->first_session(view(), file.slot, fresh());
    if (recorder_) recorder_->first_session(view(), file.slot, file.uid, file.cgroup);
    return decisions_;
}

const PolicyDecisions& PolicyHost::last_session(PlacedFile& file) {
    publish_file(file);
    policy_->last_session(view(), file.slot, fresh());
    return decisions_;
}

const PolicyDecisions& PolicyHost::introduce(const PlacedFile& file) {
    policy_->first_session(view(), file.slot, fresh());
    return decisions_;
}

const PolicyDecisions& PolicyHost::accessed(ExtentId id, Touch touch, bool foreseen) {
    policy_->fault(view(), id, touch, fresh());
    if (foreseen) decisions_.read_ahead.clear();
    return decisions_;
}

void PolicyHost::recorded_access(ExtentId id, Touch touch) {
    if (recorder_) recorder_->touched(view(), id, touch);
}

// Policies are not told: to them a mapped extent is one that was touched.
void PolicyHost::mapped(ExtentId id) {
    if (recorder_) recorder_->mapped(view(), id);
}

void PolicyHost::armed(ExtentId id) {
    if (recorder_) recorder_->armed(view(), id);
}

void PolicyHost::filled(ExtentId id) {
    policy_->filled(view(), id);
    if (recorder_) recorder_->filled(view(), id);
}

void PolicyHost::evicted(ExtentId id) {
    policy_->evicted(view(), id);
    if (recorder_) recorder_->evicted(view(), id);
}

const PolicyDecisions& PolicyHost::reclaim(uint64_t bytes, bool for_demand, ExtentId wanted) {
    PolicyDecisions& out = fresh();
    policy_->reclaim(view(wanted), bytes, for_demand, out);
    return out;
}

const PolicyDecisions& PolicyHost::tier_changed(uint8_t tier) {
    policy_->tier_change(view(), tier, fresh());
    return decisions_;
}

const PolicyDecisions& PolicyHost::epoch() {
    policy_->epoch(view(), fresh());
    return decisions_;
}

// A policy that was unloaded meanwhile has nothing more to say: its replies went with it.
const PolicyDecisions& PolicyHost::collect() {
    PolicyDecisions& out = fresh();
    if (bpf_ != nullptr) policy_->collect(view(), out);
    return out;
}

void PolicyHost::begin_epoch() {
    record_.evictions_in_epoch = 0;
    publish_usage();
    grow_if_needed();
    if (recorder_) recorder_->epoch(view());
}

void PolicyHost::count(Proposal proposal, Refusal refusal) {
    record_.decisions.count(proposal, refusal);
}

bool PolicyHost::may_evict() const {
    return record_.evictions_in_epoch < kMaxEvictionsInEpoch;
}

// --- what it sees

PolicyView PolicyHost::view(ExtentId wanted) {
    publish_tiers();
    return {.extents = extents_.used(),
            .dram = {.capacity_bytes = tiers_.usable_bytes(), .used_bytes = tiers_.used_bytes()},
            .now_ns = backend_.now_ns(),
            .tiers = std::span(tier_infos_).first(tiers_shown_),
            .models = static_cast<uint32_t>(extents_.slots().size()),
            .gpus = gpus_,
            .leases = leases_,
            .wanted = wanted};
}

void PolicyHost::publish_tiers() {
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

void PolicyHost::publish_file(const PlacedFile& file) {
    if (!tables_) return;
    tierd_model& row = tables_->models()[file.slot];
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

void PolicyHost::publish_usage() {
    if (!tables_) return;
    for (const PlacedFile* file : extents_.slots()) {
        if (file == nullptr) continue;
        tierd_model& row = tables_->models()[file->slot];
        row.resident_bytes = file->resident_bytes;
        row.last_touch_ns = file->last_touch_ns;
        row.sessions = file->clients;
    }
    publish_tiers();
    for (uint8_t number = 1; number < TIERD_MAX_TIERS; number++)
        tables_->tiers()[number] = tier_infos_[number];
}

// --- a policy comes, and goes

PolicyHost::Space PolicyHost::space() {
    uint32_t rows = std::bit_ceil(std::max(kLeastRows, extents_.size() + extents_.size() / 4));
    Space space{.tables = tables_, .rows = rows, .view = view()};
    if (space.tables && space.tables->capacity() < extents_.size()) space.tables = nullptr;
    return space;
}

Result<void> PolicyHost::share(std::shared_ptr<BpfTables> tables) {
    if (tables == tables_) return {};
    if (tables_ && tables->capacity() < tables_->capacity())
        return fail(Code::busy, "load the policy", {}, "the extent table grew meanwhile; try again");
    if (auto shared = extents_.table().share(*tables); !shared) return shared;
    tables_ = std::move(tables);
    for (const PlacedFile* file : extents_.slots())
        if (file != nullptr) publish_file(*file);
    publish_usage();
    return {};
}

Result<void> PolicyHost::install(const NewPolicy& policy) {
    const auto& object = policy.object;
    if (policy.is_reload && (bpf_ == nullptr || bpf_->name() != object->name()))
        return fail(Code::not_found, "reload the policy", object->name(), "it was unloaded meanwhile");
    if (auto shared = share(object->shared_tables()); !shared) return shared;
    auto runner = run_on_thread(object, hooks_.replied);
    // The built-in policy goes on behind the object, with all that it knows.
    auto built_in = bpf_ != nullptr ? bpf_->take_built_in() : std::move(policy_);
    auto made = std::make_unique<BpfPolicy>(object, std::move(runner), std::move(built_in));
    BpfPolicy* bpf = made.get();
    put_in_place(std::move(made), bpf);
    record_.init_log = policy.log;
    policy.is_reload ? record_.reloads++ : record_.loads++;
    growing_ = false;
    spdlog::info("policy {} decides now", object->name());
    return {};
}

// The old one goes here; its thread runs its tierd/exit.
void PolicyHost::put_in_place(std::unique_ptr<Policy> policy, BpfPolicy* bpf) {
    policy_ = std::move(policy);
    bpf_ = bpf;
    record_.decisions = {};
    record_.loaded_at_ns = backend_.now_ns();
}

Result<void> PolicyHost::unload() {
    if (bpf_ == nullptr)
        return fail(Code::not_found, "unload the policy", {},
                    fmt::format("none is loaded: {} decides", policy_->name()));
    spdlog::info("policy {} is unloaded", bpf_->name());
    put_in_place(bpf_->take_built_in(), nullptr);
    return {};
}

void PolicyHost::check() {
    if (bpf_ == nullptr) return;
    std::string reason = bpf_->exit_reason();
    if (reason.empty()) return;
    record_.ejections++;
    record_.ejected = bpf_->name();
    record_.ejected_reason = reason;
    put_in_place(bpf_->take_built_in(), nullptr);
    spdlog::error("policy {} was ejected: {}; {} decides now", record_.ejected, reason, policy_->name());
}

// Rows beyond what the programs see are served as any other; the object is loaded again with more rows.
void PolicyHost::grow_if_needed() {
    if (bpf_ == nullptr || growing_ || extents_.size() <= tables_->capacity()) return;
    growing_ = true;
    hooks_.outgrown();
}

// --- a recording

Result<TraceChunk> PolicyHost::start_trace(bool complete) {
    if (recorder_ && !recorder_->abandoned())
        return fail(Code::busy, "record a trace", {}, "another recording is running; end that one first");
    recorder_ = std::make_unique<TraceRecorder>(view(), complete);
    for (const PlacedFile* file : extents_.slots()) {
        if (file == nullptr) continue;
        recorder_->model_opened(view(), as_policy_model(*file));
        recorder_->resident_before(view(), file->slot);
    }
    return recorder_->take(view());
}

Result<TraceChunk> PolicyHost::fetch_trace() {
    if (!recorder_ || recorder_->abandoned()) return no_recording();
    return recorder_->take(view());
}

Result<TraceChunk> PolicyHost::stop_trace() {
    if (!recorder_ || recorder_->abandoned()) return no_recording();
    TraceChunk last = recorder_->finish(view());
    recorder_ = nullptr;
    return last;
}

}  // namespace tierd
