#include "lib/engine/core.h"

#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>

#include "lib/base/clock.h"

namespace tierd {

namespace {

// What is ready; clients are told apart by their number, which starts at 1.
constexpr uint64_t kMailboxEvent = 1ull << 62;
constexpr uint64_t kReaderEvent = kMailboxEvent + 1;
constexpr uint64_t kWatchEvent = kMailboxEvent + 2;
constexpr uint64_t kMemoryEvent = kMailboxEvent + 3;

// Of what sampling may cost, the part that hints aim at: they are steered by what they have cost already.
constexpr double kHintShare = 0.9;

// The life of an extent. Row: from, column: to; both in the order of tierd_extent_state.
// clang-format off
constexpr bool kMay[NR_TIERD_EXTENT_STATES][NR_TIERD_EXTENT_STATES] = {
    //               absent  queued  filling resident evicting
    /* absent   */ { false,  true,   true,   false,   false },
    /* queued   */ { true,   false,  true,   false,   false },
    /* filling  */ { false,  false,  false,  true,    true  },  // evicting: the read failed, its memory goes back
    /* resident */ { false,  false,  false,  false,   true  },
    /* evicting */ { true,   false,  false,  false,   false },
};
// clang-format on
static_assert(!kMay[TIERD_EXTENT_ABSENT][TIERD_EXTENT_RESIDENT], "bytes appear only through a fill");
static_assert(!kMay[TIERD_EXTENT_FILLING][TIERD_EXTENT_ABSENT],
              "granted memory goes back through an eviction");

bool is_busy(uint8_t state) {
    return state == TIERD_EXTENT_QUEUED || state == TIERD_EXTENT_FILLING || state == TIERD_EXTENT_EVICTING;
}

}  // namespace

Core::Core(const EngineConfig& config, Parts parts)
    : config_(config),
      reader_(std::move(parts.reader)),
      bounce_(std::move(parts.bounce)),
      policy_(std::move(parts.policy)),
      grow_policy_(std::move(parts.grow_policy)),
      table_(std::move(parts.table)),
      watch_(std::move(parts.watch)),
      readiness_(std::move(parts.readiness)),
      heartbeat_(parts.heartbeat),
      mailbox_(parts.mailbox),
      evictor_(parts.evictor),
      memory_(parts.memory),
      state_(std::move(parts.state)),
      leases_(parts.leases),
      tiers_(config.extent_bytes),
      memory_events_(std::move(parts.memory_events)),
      migrate_bytes_per_s_(config.migrate_bytes_per_s),
      started_ns_(monotonic_ns()),
      next_epoch_ns_(started_ns_ + config.epoch_ms * kNsPerMs),
      hint_budget_(kHintShare * config.sample_cost_percent / 100),
      hints_on_(config.sample_source == "auto" || config.sample_source == "hint") {
    (void)readiness_.add(mailbox_->poll_fd(), kMailboxEvent);
    (void)readiness_.add(reader_->poll_fd(), kReaderEvent);
    (void)readiness_.add(watch_.poll_fd(), kWatchEvent);
    if (memory_events_.poll_fd() >= 0) (void)readiness_.add(memory_events_.poll_fd(), kMemoryEvent);
    for (const TierSpec& spec : config_.tiers) tiers_.add(spec);
    if (config_.tiers.empty()) tiers_.add({.name = "dram0", .capacity_bytes = config_.budget_bytes});
    Tier* system = tiers_.find(config_.system_tier);
    system_tier_ = system != nullptr ? system->number : tiers_.by_speed().front()->number;
    show_tiers();
}

Core::~Core() = default;

void Core::run() {
    while (turn()) {
    }
    for (auto& [number, file] : files_) remember_order(*file);
    mailbox_->close();
    for (auto& closure : mailbox_->take()) closure(*this);
}

bool Core::turn() {
    wait_for_events();
    if (monotonic_ns() >= next_epoch_ns_) on_epoch();
    pump();
    map_one_filled();
    map_some_ahead();
    if (overslept()) {
        spdlog::warn(
            "this thread stood still past the deadline: every session goes on with the kernel's mapping");
        for (auto& [number, client] : clients_)
            if (!client->lost) lose_client(*client, FallBackReason::stood_still);
        overslept_ = false;
    }
    account_hints();
    beat();
    return !finished_stopping();
}

// Relaxed: the page publishes nothing but the beat itself.
void Core::beat() {
    std::atomic_ref(heartbeat_->beat_ns).store(monotonic_ns(), std::memory_order_relaxed);
}

// True when this thread stood still (stopped, or starved) for about the clients' deadline: they are putting
// the kernel's mapping over their ranges by themselves, and not a page may be mapped meanwhile. They are
// dropped at the end of the round.
bool Core::overslept() {
    uint64_t beat_ns = heartbeat_->beat_ns;  // only this thread writes it
    if (monotonic_ns() - beat_ns > config_.deadline_ms * kNsPerMs / 5 * 4) overslept_ = true;
    return overslept_;
}

void Core::wait_for_events() {
    uint64_t now = monotonic_ns();
    int timeout_ms = 0;
    uint64_t next_ns = map_ahead_.empty() ? next_epoch_ns_ : map_ahead_.front().not_before_ns;
    bool more = may_read_more_ || !unmapped_.empty();
    if (next_ns > now && !more) timeout_ms = static_cast<int>((next_ns - now) / kNsPerMs) + 1;
    for (uint64_t what : readiness_.wait(std::min(timeout_ms, 100))) on_event(what);
}

void Core::on_event(uint64_t what) {
    if (what == kMailboxEvent) {
        for (auto& closure : mailbox_->take()) closure(*this);
    } else if (what == kReaderEvent) {
        reader_->reap([this](const Completion& completion) { on_completion(completion); });
    } else if (what == kWatchEvent) {
        for (int watch : watch_.read()) check_watched(watch);
    } else if (what == kMemoryEvent) {
        if (memory_events_.changed()) watch_memory();
    } else if (Client* client = find_client(what)) {
        serve_faults(*client);
    }
}

void Core::on_epoch() {
    next_epoch_ns_ = monotonic_ns() + config_.epoch_ms * kNsPerMs;
    begin_policy_epoch();
    decisions_.clear();
    policy_->epoch(view(), decisions_);
    take_decisions();
    check_policy();
    tend_tiers();
    counters_.epochs++;
    check_deadlines();
    advance_jobs();
    map_some_huge();
    sample_epoch();
}

void Core::request_stop(uint64_t deadline_ns) {
    stopping_ = true;
    stop_deadline_ns_ = deadline_ns;
    for (auto& [number, client] : clients_)
        if (!client->regions.empty()) order_fall_back(*client, {}, FallBackReason::end);
}

bool Core::finished_stopping() {
    if (!stopping_) return false;
    bool waiting =
        std::any_of(clients_.begin(), clients_.end(), [](auto& c) { return !c.second->orders.empty(); });
    return !waiting || monotonic_ns() >= stop_deadline_ns_;
}

PolicyView Core::view() {
    show_tiers();
    return {.extents = table_.used(),
            .dram = {.capacity_bytes = tiers_.usable_bytes(), .used_bytes = tiers_.used_bytes()},
            .now_ns = monotonic_ns(),
            .tiers = std::span(tier_infos_).first(tiers_shown_),
            .models = static_cast<uint32_t>(slots_.size()),
            .gpus = lease_table_.gpus(),
            .leases = lease_table_.leases()};
}

WeightFile* Core::owner_of(ExtentId id) {
    if (id >= table_.size()) return nullptr;
    uint32_t slot = table_[id].model;
    if (slot >= slots_.size() || slots_[slot] == nullptr) return nullptr;
    WeightFile& file = *slots_[slot];
    bool inside = id >= file.first_extent && id - file.first_extent < file.extent_count;
    return inside ? &file : nullptr;
}

void Core::set_state(ExtentId id, tierd_extent_state next) {
    tierd_extent& row = table_[id];
    if (!kMay[row.state][next]) {
        // Going on could show a client wrong bytes; dying sends everybody to the kernel's mapping.
        spdlog::critical("extent {} can't go from state {} to {}", id, row.state, static_cast<int>(next));
        std::abort();
    }
    WeightFile& file = file_of(id);
    if (row.state == TIERD_EXTENT_RESIDENT) {
        file.resident_extents--;
        file.resident_bytes -= file.memory_of(id);
    }
    if (is_busy(row.state)) file.busy_extents--;
    row.state = next;
    if (row.state == TIERD_EXTENT_RESIDENT) {
        file.resident_extents++;
        file.resident_bytes += file.memory_of(id);
    }
    if (is_busy(row.state)) file.busy_extents++;
}

}  // namespace tierd
