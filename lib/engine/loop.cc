#include "lib/engine/loop.h"

#include <spdlog/spdlog.h>

#include <algorithm>

#include "lib/base/clock.h"
#include "lib/engine/core.h"
#include "lib/tier/topology.h"

namespace tierd {

namespace {

// What is ready; clients are told apart by their number, which starts at 1.
constexpr uint64_t kMailboxEvent = 1ull << 62;
constexpr uint64_t kReaderEvent = kMailboxEvent + 1;
constexpr uint64_t kWatchEvent = kMailboxEvent + 2;
constexpr uint64_t kMemoryEvent = kMailboxEvent + 3;

constexpr int kLongestWaitMs = 100;

FallBackReason fall_back_reason(FailReason reason) {
    switch (reason) {
        case FailReason::changed:
            return FallBackReason::changed;
        case FailReason::unreadable:
            return FallBackReason::unreadable;
        case FailReason::no_memory:
            return FallBackReason::no_memory;
    }
    return FallBackReason::unreadable;
}

}  // namespace

Loop::Loop(Core& core, Readiness& readiness, MemoryEvents memory_events)
    : core_(core),
      readiness_(readiness),
      memory_events_(std::move(memory_events)),
      epoch_ms_(core.config.epoch_ms),
      next_epoch_ns_(core.started_ns + epoch_ms_ * kNsPerMs) {
    (void)readiness_.add(core_.mailbox.poll_fd(), kMailboxEvent);
    (void)readiness_.add(core_.backend.reader().poll_fd(), kReaderEvent);
    (void)readiness_.add(core_.files.watch_fd(), kWatchEvent);
    if (memory_events_.poll_fd() >= 0) (void)readiness_.add(memory_events_.poll_fd(), kMemoryEvent);
}

void Loop::run() {
    while (turn()) {
    }
    for (auto& [number, file] : core_.files.all()) core_.files.store_order(*file);
    core_.mailbox.close();
    run_closures();
}

bool Loop::turn() {
    wait_for_events();
    if (monotonic_ns() >= next_epoch_ns_) on_epoch();
    pump();
    core_.faults.map_one_filled();
    core_.faults.map_some_ahead();
    if (core_.heartbeat.stalled()) {
        spdlog::warn(
            "the engine's thread stalled past the heartbeat deadline: all sessions fall back to the kernel's "
            "mapping");
        core_.sessions.lose_all(FallBackReason::stalled);
        core_.heartbeat.recover();
    }
    core_.hinter.end_round();
    core_.heartbeat.beat();
    return !has_stopped();
}

void Loop::wait_for_events() {
    uint64_t now = monotonic_ns();
    int timeout_ms = 0;
    uint64_t ahead_ns = core_.faults.next_ahead_ns();
    uint64_t next_ns = ahead_ns == UINT64_MAX ? next_epoch_ns_ : ahead_ns;
    bool more = core_.placement.filler().has_more() || core_.faults.has_filled();
    if (next_ns > now && !more) timeout_ms = static_cast<int>((next_ns - now) / kNsPerMs) + 1;
    for (uint64_t what : readiness_.wait(std::min(timeout_ms, kLongestWaitMs))) on_event(what);
}

void Loop::on_event(uint64_t what) {
    if (what == kMailboxEvent) {
        run_closures();
    } else if (what == kReaderEvent) {
        core_.backend.reader().reap([this](const Completion& completion) { on_completion(completion); });
    } else if (what == kWatchEvent) {
        for (auto& file : core_.files.read_changes()) mark_changed(*file);
    } else if (what == kMemoryEvent) {
        if (memory_events_.changed()) on_memory_changed();
    } else if (Client* client = core_.sessions.find(what)) {
        core_.faults.serve(*client);
    }
}

void Loop::run_closures() {
    for (auto& closure : core_.mailbox.take()) closure(core_);
    if (uint64_t due_ns = core_.placement.take_epoch_due_ns(); due_ns > 0) next_epoch_ns_ = due_ns;
}

// The machine is looked at on another thread; news that come meanwhile make it look again.
void Loop::on_memory_changed() {
    if (!core_.config.follow_memory) return;
    core_.state_thread.post([&mailbox = core_.mailbox] {
        mailbox.post([topology = read_topology()](Core& core) { core.tier_admin.on_topology(topology); });
    });
}

void Loop::on_epoch() {
    next_epoch_ns_ = monotonic_ns() + epoch_ms_ * kNsPerMs;
    const bool audits = core_.placement.tiers().count() > 1;
    core_.gpu_leases.update();
    core_.placement.epoch();
    if (uint64_t due_ns = core_.placement.take_epoch_due_ns(); due_ns > 0) next_epoch_ns_ = due_ns;
    if (audits) core_.auditor.check_some();
    core_.faults.check_deadlines();
    core_.placement.update_jobs();
    core_.huge.map_some();
    const uint64_t now = monotonic_ns();
    core_.sampler.epoch(now);
    core_.hinter.epoch(now, core_.faults.is_waiting());
}

void Loop::pump() {
    bool done = false;
    while (!done) {
        done = core_.placement.pump();
        handle_events();
    }
}

void Loop::handle_events() {
    for (const PlacementEvent& event : core_.placement.take_events()) {
        if (event.kind == PlacementEvent::Kind::filled) {
            core_.faults.on_filled(event);
            continue;
        }
        if (event.kind == PlacementEvent::Kind::failed)
            core_.faults.on_failed(event.extent, fall_back_reason(event.reason));
        core_.files.close_if_idle(core_.placement.extents().find(event.extent));
    }
}

void Loop::on_completion(const Completion& completion) {
    std::optional<ReadEnd> end = core_.backend.on_completion(completion);
    if (!end) return;
    WeightFile& file = *end->file;
    EngineCounters& counters = core_.placement.counters();
    counters.bytes_read += end->bytes;
    if (end->bytes == 0) counters.read_errors++;
    if (end->file_changed) mark_changed(file);
    if (file.changed && end->why.empty()) end->why = "the file changed";
    if (end->why.empty()) {
        core_.placement.on_read(end->extent, end->read_ns);
    } else {
        spdlog::warn("cannot serve extent {} of {}: {}", file.index_of(end->extent), file.path, end->why);
        core_.placement.on_read_failed(end->extent);
    }
    handle_events();
}

void Loop::on_released(ExtentId id, bool was_published) {
    core_.placement.on_released(id, was_published);
    handle_events();
}

void Loop::on_moved(const MoveEnd& end) {
    core_.placement.on_moved(end);
}

void Loop::on_policy_replies() {
    core_.placement.on_policy_replies();
}

// The file is no longer what its sessions attached to: nobody gets another byte of the old one.
void Loop::mark_changed(WeightFile& file) {
    if (file.changed) return;
    spdlog::warn("{:?} changed while it was served: its sessions fall back to the kernel's mapping",
                 file.path);
    core_.files.stop_watching(file);
    core_.sessions.command_fall_back(file, FallBackReason::changed);
    core_.placement.mark_changed(file);
}

Result<uint64_t> Loop::open_session(const Peer& peer, Fd command_channel, std::string command,
                                    uint64_t cgroup) {
    if (stopping_) return fail(Code::busy, "open session", {}, "tierd is shutting down");
    return core_.sessions.open(peer, std::move(command_channel), std::move(command), cgroup);
}

Result<void> Loop::map(uint64_t number, const RegionRequest& request, Fd userfaultfd) {
    if (stopping_) return fail(Code::busy, "map", {}, "tierd is shutting down");
    auto region = core_.sessions.map(number, request, std::move(userfaultfd));
    if (!region) return std::unexpected(region.error());
    core_.faults.map_ahead(*core_.sessions.find(number), *(*region)->file, request.offset_bytes,
                           request.length_bytes);
    return {};
}

void Loop::request_stop(uint64_t deadline_ns) {
    stopping_ = true;
    stop_deadline_ns_ = deadline_ns;
    core_.sessions.command_all_back(FallBackReason::end);
}

bool Loop::has_stopped() {
    if (!stopping_) return false;
    return !core_.sessions.has_orders() || monotonic_ns() >= stop_deadline_ns_;
}

}  // namespace tierd
