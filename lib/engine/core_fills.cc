// core_fills.cc - the engine's thread, from a wanted extent to its bytes in memory.
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "lib/base/bytes.h"
#include "lib/base/clock.h"
#include "lib/engine/core.h"

namespace tierd {

namespace {

constexpr uint64_t kStatTag = 1ull << 62;
constexpr uint32_t kPartShift = 32;
constexpr uint32_t kPartBytes = 256 * kKiB;
constexpr uint32_t kMaxReads = 200;  // below the ring's entries, with room for parts and identity checks
constexpr uint8_t kMaxAttempts = 3;
// Reads of files whose file system may hang (network, FUSE), of one and of all together. They take bounce buffers (there are
// kBounceBuffers), memory and kernel threads, and may never give them back: the rest is for the others.
constexpr uint32_t kMaxRemoteReadsOfFile = 6;
constexpr uint32_t kMaxRemoteReads = 12;
static_assert(kMaxRemoteReads < kBounceBuffers);

}  // namespace

void Core::want(ExtentId id, Client& client, uint64_t address, uint64_t arrived_ns) {
    waiters_[id].push_back({client.number, address, arrived_ns});
    if (table_[id].state != TIERD_EXTENT_ABSENT)
        return;  // queued, filling or evicting: settled at the end of that
    set_state(id, TIERD_EXTENT_QUEUED);
    demand_.push_back(id);
}

// Starts whatever can be started: demand first, then read-ahead, then what administrators and clients wish
// for.
void Core::pump() {
    bool started = false;
    while (!demand_.empty() && local_reads() < kMaxReads) {
        ExtentId id = demand_.front();
        if (table_[id].state == TIERD_EXTENT_QUEUED) {
            Started begun = start_fill(id, FillReason::demand);
            if (begun == Started::held_up) {
                held_.push_back(id);
                demand_.pop_front();
                continue;
            }
            bool coming = begun == Started::yes;
            if (begun == Started::no_room) coming = make_room(queued_demand_bytes(), true);
            if (begun == Started::no_huge_page) coming = free_huge_page();
            if (begun == Started::no_buffer) coming = true;
            bool moving = evicting_bytes_ > 0 || reads_in_flight_ > 0 || !moves_.empty();
            if (begun != Started::yes && (coming || moving)) break;
            if (begun != Started::yes) {  // nothing can ever be freed for it
                auto file = slots_[file_of(id).slot];
                abandon_fill(id, FallBackReason::no_memory);
                drop_file_if_idle(file);  // whoever wanted it may have gone
            }
        }
        demand_.pop_front();
        started = true;
    }
    if (started && demand_.empty()) keep_watermark();
    may_read_more_ = demand_.empty() && read_one_ahead();
    reader_->flush();
}

// Starts one of the reads that nobody waits for; the memory of a few takes longer to make than a touch should wait.
// False: there is none to start now.
bool Core::read_one_ahead() {
    const uint32_t before = reads_in_flight_;
    auto none_yet = [&] { return reads_in_flight_ == before && local_reads() < config_.io_depth; };
    while (none_yet() && !ahead_.empty() && pump_one(ahead_, FillReason::read_ahead)) {
    }
    while (none_yet() && !guesses_.empty() && ahead_.empty() && pump_one(guesses_, FillReason::guess)) {
    }
    for (auto& [number, job] : jobs_)
        while (none_yet() && !job.queue.empty() && pump_preload(job)) {
        }
    while (none_yet() && !will_need_.empty() && ahead_.empty() &&
           tiers_.free_bytes() >= config_.extent_bytes && pump_one(will_need_, FillReason::preload)) {
    }
    return reads_in_flight_ > before;
}

uint64_t Core::queued_demand_bytes() {
    uint64_t bytes = 0;
    for (ExtentId id : demand_)
        if (table_[id].state == TIERD_EXTENT_QUEUED) bytes += file_of(id).memory_of(id);
    return bytes;
}

// Of the wishes that could be under way at once: room for several, so that evictions run beside the reads and
// not between them.
uint64_t Core::wished_bytes(const std::deque<ExtentId>& queue) {
    uint64_t bytes = 0;
    for (size_t i = 0; i < std::min<size_t>(queue.size(), config_.io_depth); i++)
        if (WeightFile* file = owner_of(queue[i])) bytes += file->memory_of(queue[i]);
    return bytes;
}

// Takes the queue's first wish. False: there is no memory for it now; the queue waits if some is coming, else
// is dropped. A wish for a file that has enough reads under way is dropped, unless the queue is `patient`.
bool Core::pump_one(std::deque<ExtentId>& queue, FillReason reason, bool patient) {
    ExtentId id = queue.front();
    WeightFile* file = owner_of(id);
    if (file != nullptr && !file->changed && table_[id].state == TIERD_EXTENT_ABSENT) {
        Started begun = start_fill(id, reason);
        bool coming = begun == Started::no_buffer || (begun == Started::held_up && patient);
        if (begun == Started::held_up && !patient) {
            queue.pop_front();
            return true;
        }
        if (begun == Started::no_room)
            coming = make_room(wished_bytes(queue), false, id) || evicting_bytes_ > 0;
        if (begun != Started::yes && !coming) queue.clear();
        if (begun != Started::yes) return false;
    }
    queue.pop_front();
    return true;
}

// False: memory is on its way, or other reads of the file are, or there is none to be had.
bool Core::pump_preload(Job& job) {
    size_t before = job.queue.size();
    if (pump_one(job.queue, FillReason::preload, true)) return true;
    if (job.queue.empty())
        job.status.error = fmt::format(
            "the budget is full: {} extents were not read; evict something or raise the budget", before);
    return false;
}

// False where a file system that may hang has as much of what all share as it may have. One read may always be tried: whoever
// is held up goes on when another of these reads has ended, so there must be one.
bool Core::may_read(const WeightFile& file) const {
    if (file.origin.local_disk) return true;
    uint64_t room = tiers_.usable_bytes() / 2 / config_.extent_bytes;
    return file.remote_reads < kMaxRemoteReadsOfFile &&
           remote_reads_ < std::clamp<uint64_t>(room, 1, kMaxRemoteReads);
}

// Grants memory and issues the read.
Started Core::start_fill(ExtentId id, FillReason reason) {
    WeightFile& file = file_of(id);
    if (!may_read(file)) return Started::held_up;
    Fill fill;
    fill.reason = reason;
    fill.started_ns = monotonic_ns();
    uint8_t tier = tiers_.grant(file.memory_of(id), heat_.reader_node(id));
    if (tier == kNoTier) return Started::no_room;
    Started refused = Started::yes;
    PreferNode prefer(preferred_node(tier));
    if (file.bounces(id)) {
        fill.bounce = bounce_.take();
        if (fill.bounce == nullptr) refused = Started::no_buffer;
    } else if (!file.arena.reserve(file.offset_of(id), file.memory_of(id))) {
        refused = Started::no_huge_page;
    }
    if (refused != Started::yes) {
        tiers_.give_back(tier, file.memory_of(id));
        return refused;
    }
    set_state(id, TIERD_EXTENT_FILLING);
    last_read_ns_ = fill.started_ns;
    table_[id].tier = tier;
    fills_[id] = std::move(fill);
    reads_in_flight_++;
    if (!file.origin.local_disk) {
        file.remote_reads++;
        remote_reads_++;
    }
    if (!issue_read(id)) {
        fail_fill(id, "the ring is full");
        return Started::yes;
    }
    fill_seams(id, reason);
    return Started::yes;
}

// The pages that a slice shares with its neighbours are touched with it.
void Core::fill_seams(ExtentId id, FillReason reason) {
    WeightFile& file = file_of(id);
    if (file.layout.is_even() || file.layout.is_seam(id - file.first_extent)) return;
    for (ExtentId seam : {id - 1, id + 1}) {
        bool inside = seam >= file.first_extent && seam - file.first_extent < file.extent_count;
        if (inside && file.layout.is_seam(seam - file.first_extent) && local_reads() < kMaxReads &&
            table_[seam].state == TIERD_EXTENT_ABSENT)
            start_fill(seam, reason);
    }
}

// Bytes of the file in a part of an extent's read.
uint32_t Core::part_bytes(ExtentId id, uint32_t part) {
    uint32_t step = fills_[id].bounce != nullptr ? kPartBytes : UINT32_MAX;
    return std::min(step, file_of(id).bytes_in(id) - part * kPartBytes);
}

// Reads that pass through a buffer go in parts: while one is copied into the arena, the disk works on the next.
// False when the ring took none.
bool Core::issue_read(ExtentId id) {
    WeightFile& file = file_of(id);
    Fill& fill = fills_[id];
    PreferNode prefer(preferred_node(table_[id].tier));
    // The kernel's own threads may issue the read, and know nothing of what this one prefers.
    if (file.has_folios(id))
        file.arena.populate_folios(file.offset_of(id), file.memory_of(id));
    else if (fill.bounce == nullptr && preferred_node(table_[id].tier) >= 0)
        file.arena.populate(file.offset_of(id), file.memory_of(id));
    uint32_t parts = fill.bounce == nullptr ? 1 : (file.bytes_in(id) + kPartBytes - 1) / kPartBytes;
    fill.failure = 0;
    for (uint32_t part = 0; part < parts; part++) {
        uint64_t offset = file.offset_of(id) + part * kPartBytes;
        uint64_t length = part_bytes(id, part);
        if (file.origin.direct) length = round_up(length, kDirectAlign);
        bool accepted =
            reader_->read({.tag = uint64_t{part} << kPartShift | id,
                           .file = file.reader_file,
                           .offset_bytes = offset,
                           .length_bytes = static_cast<uint32_t>(length),
                           .into = fill.bounce ? fill.bounce + part * kPartBytes : file.arena.at(offset),
                           .may_hang = !file.origin.local_disk});
        if (!accepted) {
            fill.failure = -EAGAIN;
            break;
        }
        fill.parts++;
    }
    // The disk works while the next extent's memory is made.
    if (fill.bounce == nullptr) reader_->flush();
    return fill.parts > 0;
}

void Core::on_completion(const Completion& completion) {
    auto id = static_cast<ExtentId>(completion.tag);
    if ((completion.tag & kStatTag) != 0) return on_stat(id, completion.result);
    on_part(id, static_cast<uint32_t>(completion.tag >> kPartShift), completion.result);
}

void Core::on_part(ExtentId id, uint32_t part, int64_t result) {
    WeightFile& file = file_of(id);
    Fill& fill = fills_[id];
    uint32_t wanted = part_bytes(id, part);
    if (result == wanted && fill.bounce != nullptr) {
        PreferNode prefer(preferred_node(table_[id].tier));
        auto stored =
            file.arena.store(file.offset_of(id) + part * kPartBytes, fill.bounce + part * kPartBytes, wanted);
        // Part of a page must never be shown.
        if (!stored) result = -(stored.error().err != 0 ? stored.error().err : EIO);
    }
    if (result == -EINVAL && file.origin.direct) file.origin.leave_direct();
    if (result != wanted) fill.failure = result < 0 ? static_cast<int>(result) : -ENODATA;
    if (--fill.parts == 0) on_read(id);
}

void Core::on_read(ExtentId id) {
    WeightFile& file = file_of(id);
    Fill& fill = fills_[id];
    if (fill.failure != 0) {
        // Once more: the error may have passed, and a short read of an unchanged file is only a short read.
        int failure = fill.failure;
        if (++fill.attempts < kMaxAttempts && issue_read(id)) return;
        counters_.read_errors++;
        return fail_fill(
            id, failure == -ENODATA ? "the file is shorter than it was" : fmt::format("error {}", -failure));
    }
    fill.read_ns = monotonic_ns();
    counters_.bytes_read += file.bytes_in(id);
    if (!file.origin.direct)
        evictor_->post([shared = slots_[file.slot], offset = file.offset_of(id),
                        length = file.memory_of(id)] { shared->origin.drop_cache(offset, length); });
    // The bytes count only if the file was still the same when they had been read.
    if (file.origin.local_disk) {
        if (!file.origin.unchanged()) mark_changed(file);
        return file.changed ? fail_fill(id, "the file changed") : publish(id);
    }
    fill.stat = std::make_unique<struct statx>();
    if (!reader_->stat(kStatTag | id, file.origin.fd.get(), fill.stat.get()))
        fail_fill(id, "the ring is full");
}

void Core::on_stat(ExtentId id, int64_t result) {
    WeightFile& file = file_of(id);
    auto stat = std::move(fills_[id].stat);
    const FileIdentity& was = file.origin.identity;
    auto in_ns = [](const statx_timestamp& t) {
        return t.tv_sec * static_cast<int64_t>(kNsPerSecond) + t.tv_nsec;
    };
    bool same = result == 0 && stat->stx_size == was.size_bytes && in_ns(stat->stx_mtime) == was.mtime_ns &&
                in_ns(stat->stx_ctime) == was.ctime_ns;
    if (!same) mark_changed(file);
    file.changed ? fail_fill(id, "the file changed") : publish(id);
}

// Takes a fill off the list, whether it went well or not.
Fill Core::end_fill(ExtentId id) {
    Fill fill = std::move(fills_.extract(id).mapped());
    if (fill.bounce != nullptr) bounce_.give_back(std::exchange(fill.bounce, nullptr));
    reads_in_flight_--;
    WeightFile& file = file_of(id);
    if (!file.origin.local_disk) {
        file.remote_reads--;
        remote_reads_--;
        demand_.insert(demand_.end(), held_.begin(), held_.end());
        held_.clear();
    }
    return fill;
}

// The bytes are there and right: from here on they may be mapped.
void Core::publish(ExtentId id) {
    WeightFile& file = file_of(id);
    Fill fill = end_fill(id);
    FillReason reason = fill.reason;
    set_state(id, TIERD_EXTENT_RESIDENT);
    tierd_extent& row = table_[id];
    row.filled_ns = monotonic_ns();
    bool awaited = waiters_.contains(id);
    row.flags &= static_cast<uint8_t>(~(TIERD_EXTENT_UNTOUCHED | TIERD_EXTENT_MAPPED));
    if (!awaited) row.flags |= TIERD_EXTENT_UNTOUCHED;
    if (reason == FillReason::demand) counters_.fills_demand++;
    if (reason == FillReason::read_ahead || reason == FillReason::guess) counters_.fills_read_ahead++;
    if (reason == FillReason::preload) counters_.fills_preload++;
    policy_->filled(view(), id);
    if (observer_) observer_->filled(view(), id);
    settle_waiters(id, fill.started_ns, fill.read_ns);
    // What somebody asked for whole is mapped at once. What was only read ahead waits for its touch, which
    // keeps the read-ahead going; while nothing is short, that of every fourth will do.
    bool is_signal = reason == FillReason::read_ahead && (id - file.first_extent) % 4 == 0;
    // A slice that was read with another of the same expert is touched next for certain.
    bool slice = !file.layout.is_even() && row.role == TIERD_ROLE_EXPERT;
    bool certain = reason == FillReason::read_ahead && slice && !awaited;
    bool spared = reason != FillReason::demand && !is_signal && everything_fits();
    if (row.state != TIERD_EXTENT_RESIDENT || (!certain && !spared)) return;
    unmapped_.push_back(id);
    if (certain) note_touch(file, id, Touch::minor, true);
}

// Maps one of those that were filled and are to be mapped ahead of their touch: between the reads, since to map an extent takes
// as long as a quarter of its reading.
void Core::map_one_filled() {
    if (unmapped_.empty()) return;
    ExtentId id = unmapped_.front();
    unmapped_.pop_front();
    WeightFile* file = owner_of(id);
    bool stands = file != nullptr && !file->changed && table_[id].state == TIERD_EXTENT_RESIDENT;
    if (stands && !heat_.hinted(id)) map_for_all(*file, id);
}

// Answers everybody who waits for a resident extent.
void Core::settle_waiters(ExtentId id, uint64_t started_ns, uint64_t read_ns) {
    uint64_t stored_ns = table_[id].filled_ns;
    auto found = waiters_.find(id);
    if (found == waiters_.end()) return;
    std::vector<Waiter> list = std::move(found->second);
    waiters_.erase(found);
    for (const Waiter& waiter : list) {
        Client* client = find_client(waiter.client);
        if (client == nullptr || client->leaving(waiter.address)) continue;
        const Region* region = client->find(waiter.address);
        if (table_[id].state != TIERD_EXTENT_RESIDENT) {
            waiters_[id].push_back(waiter);  // lost while the first of them was answered
            continue;
        }
        if (region == nullptr ||
            region->file->extent_at(region->offset_bytes + (waiter.address - region->address)) != id) {
            client->userfaultfd->wake(round_down(waiter.address, 4 * kKiB), 4 * kKiB);
            continue;
        }
        if (!map_extent(*client, *region, id, waiter.address)) {
            waiters_[id].push_back(waiter);
            continue;
        }
        uint64_t mapped_ns = monotonic_ns();
        uint64_t waited_ns = mapped_ns - waiter.arrived_ns;
        reader_waited(WaitKind::missing, waiter.arrived_ns);
        profile_.add(FaultStage::queue, started_ns - std::min(started_ns, waiter.arrived_ns));
        profile_.add(FaultStage::read, read_ns - started_ns);
        profile_.add(FaultStage::check, stored_ns - read_ns);
        profile_.add(FaultStage::map, mapped_ns - stored_ns);
        profile_.add(FaultStage::whole, waited_ns);
        client->slowest_fault_ns = std::max(client->slowest_fault_ns, waited_ns);
        counters_.slowest_fault_ns = std::max(counters_.slowest_fault_ns, waited_ns);
        if (waited_ns <= slowest_.whole_ns) continue;
        const WeightFile& file = *region->file;
        slowest_ = {.pid = client->peer.pid,
                    .path = file.path,
                    .extent = id - file.first_extent,
                    .since_ns = waiter.arrived_ns - std::min(waiter.arrived_ns, started_ns_),
                    .queue_ns = started_ns - std::min(started_ns, waiter.arrived_ns),
                    .read_ns = read_ns - started_ns,
                    .check_ns = stored_ns - read_ns,
                    .map_ns = mapped_ns - stored_ns,
                    .whole_ns = waited_ns};
    }
}

// The read went wrong: its memory goes back, and whoever waits asks the kernel, which gives its own answer
// (SIGBUS, or the bytes).
void Core::fail_fill(ExtentId id, const std::string& why) {
    WeightFile& file = file_of(id);
    spdlog::warn("extent {} of {} can't be served: {}", id - file.first_extent, file.path, why);
    end_fill(id);
    release_memory(id, false);
    abandon_fill(id, file.changed ? FallBackReason::changed : FallBackReason::unreadable);
}

// Nobody waits for this extent any longer: they go on with the kernel's mapping.
void Core::abandon_fill(ExtentId id, FallBackReason reason) {
    WeightFile& file = file_of(id);
    if (table_[id].state == TIERD_EXTENT_QUEUED) set_state(id, TIERD_EXTENT_ABSENT);
    auto found = waiters_.find(id);
    if (found == waiters_.end()) return;
    std::vector<Waiter> list = std::move(found->second);
    waiters_.erase(found);
    for (const Waiter& waiter : list)
        if (Client* client = find_client(waiter.client))
            order_fall_back(*client, {file.number, file.offset_of(id), file.memory_of(id), {}}, reason);
}

}  // namespace tierd
