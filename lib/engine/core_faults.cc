// core_faults.cc - the engine's thread, from a touch to a mapped page.
#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <algorithm>

#include "lib/base/bytes.h"
#include "lib/base/clock.h"
#include "lib/engine/core.h"

namespace tierd {

namespace {

constexpr uint32_t kFaultAround = 3;  // resident extents mapped after a touched one while everything fits
constexpr uint64_t kMapAheadSliceNs = kNsPerMs;  // longer, and a demand miss would feel it

uint32_t saturating_add(uint32_t value, uint32_t more) {
    return value > UINT32_MAX - more ? UINT32_MAX : value + more;
}

}  // namespace

void Core::serve_faults(Client& client) {
    if (!client.userfaultfd) return;
    std::array<Fault, 64> room;
    auto faults = client.userfaultfd->read(room);
    round_faults_ += faults.size();
    for (const Fault& fault : faults) handle_fault(client, fault);
}

void Core::handle_fault(Client& client, const Fault& fault) {
    // A writer held back while its range falls back; the shim wakes it.
    if (fault.write_protect) return;
    const Region* region = client.find(fault.address);
    if (region == nullptr) {
        if (client.leaving(fault.address)) return;
        client.userfaultfd->wake(round_down(fault.address, 4 * kKiB), 4 * kKiB);
        return;
    }
    WeightFile& file = *region->file;
    ExtentId id = file.extent_at(region->offset_bytes + (fault.address - region->address));
    if (file.changed)
        return order_fall_back(client, {file.number, 0, file.arena.length_bytes(), {}},
                               FallBackReason::changed);
    uint64_t arrived_ns = monotonic_ns();
    if (table_[id].state == TIERD_EXTENT_RESIDENT) {
        counters_.faults_minor++;
        client.faults_minor++;
        bool hinted = heat_.hinted(id);
        bool mapped = hinted ? map_hinted(client, *region, id, fault, arrived_ns)
                             : map_extent(client, *region, id, fault.address);
        if (!hinted) reader_waited(WaitKind::minor, arrived_ns);
        profile_.add(FaultStage::minor, monotonic_ns() - arrived_ns);
        note_touch(file, id, Touch::minor);
        if (!mapped) return want(id, client, fault.address, arrived_ns);
        // One signal for a few extents is enough while nothing is short.
        uint32_t next = id - file.first_extent + 1;
        if (hinted) {
            note_hinted(client, file, id, fault, arrived_ns);
        } else if (everything_fits())
            map_ahead_.push_back(
                {client.number, file.number, next, std::min(next + kFaultAround, file.extent_count), 0});
        return;
    }
    client.faults_missing++;
    file.missed_ns = arrived_ns;
    bool joins = table_[id].state == TIERD_EXTENT_FILLING;
    joins ? counters_.faults_joined++ : counters_.faults_missing++;
    want(id, client, fault.address, arrived_ns);
    note_touch(file, id, Touch::missing);
}

void Core::note_touch(WeightFile& file, ExtentId id, Touch touch, bool foreseen) {
    tierd_extent& row = table_[id];
    uint64_t now = monotonic_ns();
    decisions_.clear();
    policy_->fault(view(), id, touch, decisions_);
    if (foreseen) decisions_.read_ahead.clear();
    count_touch(id, now);
    row.last_touch_ns = now;
    file.last_touch_ns = now;
    row.touches = saturating_add(row.touches, 1);
    row.flags &= static_cast<uint8_t>(~TIERD_EXTENT_UNTOUCHED);
    uint32_t index = id - file.first_extent;
    if (file.recording && !file.touched[index]) {
        file.touched[index] = true;
        file.first_touches.push_back(index);
    }
    if (observer_) observer_->touched(view(), id, touch);
    take_decisions();
}

// True when the extent is mapped, or the client no longer wants it; false when its memory turned out to be
// missing. `page_only`: no more than the touched page of it was taken out.
bool Core::map_extent(Client& client, const Region& region, ExtentId id, uint64_t touched, bool page_only) {
    AddressRange range = range_of(region, id);
    if (range.length_bytes == 0 || overslept()) return true;
    Mapped mapped = page_only
                        ? client.userfaultfd->continue_page(touched)
                        : client.userfaultfd->continue_range(range.address, range.length_bytes, touched);
    if (mapped == Mapped::not_filled) {
        // Somebody else dropped our pages. What is left of them goes, and the extent is read again.
        spdlog::warn("extent {} of {} lost its memory; it will be read again", id - region.file->first_extent,
                     region.file->path);
        start_eviction(id, true);
        return false;
    }
    if (mapped == Mapped::gone) {
        client.userfaultfd->wake(range.address, range.length_bytes);
        return true;
    }
    table_[id].flags |= TIERD_EXTENT_MAPPED;
    wish_huge(client, region, id, range);
    return true;
}

// Maps a resident extent wherever its file is mapped, ahead of touches.
void Core::map_for_all(WeightFile& file, ExtentId id) {
    for (auto& [number, client] : clients_) {
        if (!client->files.contains(file.number) || !client->userfaultfd) continue;
        if (!map_for(*client, file, id)) return;
    }
}

// Maps it in each region of one client. False when its memory turned out to be missing.
bool Core::map_for(Client& client, const WeightFile& file, ExtentId id) {
    for (const Region& region : client.regions) {
        if (region.file.get() != &file) continue;
        AddressRange range = range_of(region, id);
        if (range.length_bytes > 0 && !map_extent(client, region, id, range.address)) return false;
    }
    heat_.cover(id, monotonic_ns());
    return true;
}

void Core::map_some_ahead() {
    uint64_t stop_ns = monotonic_ns() + kMapAheadSliceNs;
    while (!map_ahead_.empty() && monotonic_ns() < stop_ns) {
        MapAhead& task = map_ahead_.front();
        if (task.not_before_ns > monotonic_ns()) return;
        Client* client = find_client(task.client);
        auto file = files_.find(task.file);
        // Of a changed file nothing is mapped any more: its sessions may be going back to the kernel's mapping.
        bool over = client == nullptr || file == files_.end() || file->second->changed ||
                    task.next >= task.end || !everything_fits();
        if (over) {
            map_ahead_.pop_front();
            continue;
        }
        ExtentId id = file->second->first_extent + task.next++;
        // What is hinted is to be touched first.
        if (table_[id].state == TIERD_EXTENT_RESIDENT && !heat_.hinted(id))
            map_for(*client, *file->second, id);
    }
}

// While all that is in use fits, every touch that can be spared is; when it does not, first touches of what
// was read ahead are left to be seen, since they tell the policy where each pass is.
bool Core::everything_fits() const {
    return attached_bytes_ <= tiers_.usable_bytes();
}

void Core::check_deadlines() {
    uint64_t now = monotonic_ns();
    for (auto& [id, list] : waiters_) {
        WeightFile& file = file_of(id);
        for (Waiter& waiter : list) {
            if (now - waiter.arrived_ns < config_.fault_deadline_ms * kNsPerMs) continue;
            waiter.arrived_ns = now;  // asked once a deadline, not once an epoch
            Client* client = find_client(waiter.client);
            if (client == nullptr) continue;
            spdlog::warn("pid {} waited {} ms for extent {} of {}: it goes on with the kernel's mapping",
                         client->peer.pid, config_.fault_deadline_ms, id - file.first_extent, file.path);
            order_fall_back(*client, {file.number, file.offset_of(id), file.memory_of(id), {}},
                            FallBackReason::deadline);
        }
    }
}

}  // namespace tierd
