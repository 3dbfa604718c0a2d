#include "lib/engine/fault_server.h"

#include <spdlog/spdlog.h>

#include <algorithm>

#include "lib/base/bytes.h"
#include "lib/base/clock.h"

namespace tierd {

namespace {

constexpr uint64_t kSmallPage = 4 * kKiB;
constexpr uint64_t kAheadSliceNs = kNsPerMs;  // longer, and a demand miss would feel it
constexpr size_t kMaxAhead = 4096;            // a client may map and unmap faster than this is worked off

}  // namespace

FaultServer::FaultServer(uint32_t deadline_ms, uint64_t started_ns, Placement& placement,
                         KernelBackend& backend, FileRegistry& files, Sessions& sessions, Hinter& hinter,
                         HugeMapper& huge, HeartbeatWriter& heartbeat)
    : deadline_ms_(deadline_ms),
      placement_(placement),
      backend_(backend),
      files_(files),
      sessions_(sessions),
      hinter_(hinter),
      huge_(huge),
      heartbeat_(heartbeat),
      started_ns_(started_ns) {}

void FaultServer::serve(Client& client) {
    if (!client.userfaultfd) return;
    std::array<Fault, 64> buffer;
    auto faults = client.userfaultfd->read(buffer);
    hinter_.count_faults(faults.size());
    for (const Fault& fault : faults) handle(client, fault);
}

void FaultServer::retry(uint64_t number, uint64_t address) {
    Client* client = sessions_.find(number);
    if (client != nullptr) handle(*client, {.address = address});
}

void FaultServer::handle(Client& client, const Fault& fault) {
    // A writer held back while its range falls back; the shim wakes it.
    if (fault.write_protect) return;
    const Region* region = client.find(fault.address);
    if (region == nullptr) {
        if (client.leaving(fault.address)) return;
        client.userfaultfd->wake(round_down(fault.address, kSmallPage), kSmallPage);
        return;
    }
    WeightFile& file = *region->file;
    ExtentId id = region->extent_at(fault.address);
    if (file.changed)
        return sessions_.command_fall_back(client, {file.number, 0, file.arena.length_bytes(), {}},
                                           FallBackReason::changed);
    uint64_t arrived_ns = monotonic_ns();
    if (placement_.extents().is(id, TIERD_EXTENT_RESIDENT))
        return serve_resident(client, *region, id, fault, arrived_ns);
    client.faults_missing++;
    file.missed_ns = arrived_ns;
    EngineCounters& counters = placement_.counters();
    bool joins = placement_.extents().is(id, TIERD_EXTENT_FILLING);
    joins ? counters.faults_joined++ : counters.faults_missing++;
    wait(id, client, fault.address, arrived_ns);
    placement_.accessed(id, Touch::missing);
    hinter_.on_access(id);
}

void FaultServer::serve_resident(Client& client, const Region& region, ExtentId id, const Fault& fault,
                                 uint64_t arrived_ns) {
    WeightFile& file = *region.file;
    placement_.counters().faults_minor++;
    client.faults_minor++;
    bool hinted = placement_.extents().heat().hinted(id);
    bool mapped = hinted ? map_hinted(client, region, id, fault, arrived_ns)
                         : map_extent(client, region, id, fault.address);
    if (!hinted) backend_.reader_waited(WaitKind::minor, arrived_ns);
    profile_.add(FaultStage::minor, monotonic_ns() - arrived_ns);
    placement_.accessed(id, Touch::minor);
    hinter_.on_access(id);
    if (!mapped) return wait(id, client, fault.address, arrived_ns);
    if (hinted)
        hinter_.on_touched(client, file, id, fault, arrived_ns);
    else if (placement_.everything_fits() && !placement_.policy().records_all())
        ahead_.push_back({client.number, file.number, file.index_of(id) + 1,
                          file.index_of(placement_.mapped_with(id)), 0});
}

bool FaultServer::map_hinted(Client& client, const Region& region, ExtentId id, const Fault& fault,
                             uint64_t arrived_ns) {
    if (hinter_.map_huge(client, region, id, fault, arrived_ns)) return true;
    bool mapped = map_extent(client, region, id, fault.address, region.file->has_small_pages(id));
    hinter_.on_waited(arrived_ns);
    backend_.reader_waited(WaitKind::minor, arrived_ns);
    return mapped;
}

void FaultServer::wait(ExtentId id, const Client& client, uint64_t address, uint64_t arrived_ns) {
    waiters_[id].push_back({client.number, address, arrived_ns});
    placement_.demand(id);
}

// True when the extent is mapped, or the client no longer wants it; false when its memory turned out to be missing.
// `page_only`: no more than the touched page of it was taken out.
bool FaultServer::map_extent(Client& client, const Region& region, ExtentId id, uint64_t touched,
                             bool page_only) {
    AddressRange range = range_of(region, id);
    if (range.length_bytes == 0 || heartbeat_.stalled()) return true;
    Mapped mapped = page_only
                        ? client.userfaultfd->continue_page(touched)
                        : client.userfaultfd->continue_range(range.address, range.length_bytes, touched);
    if (mapped == Mapped::not_filled) {
        // Somebody else dropped our pages. What is left of them goes, and the extent is read again.
        spdlog::warn("extent {} of {} lost its memory; it will be read again", region.file->index_of(id),
                     region.file->path);
        placement_.lost(id);
        return false;
    }
    if (mapped == Mapped::gone) {
        client.userfaultfd->wake(range.address, range.length_bytes);
        return true;
    }
    placement_.extents().set_flag(id, TIERD_EXTENT_MAPPED, true);
    huge_.request(client, region, id, range);
    return true;
}

// Maps a resident extent wherever its file is mapped, ahead of touches.
void FaultServer::map_for_all(WeightFile& file, ExtentId id) {
    for (auto& [number, client] : sessions_.all()) {
        if (!client->files.contains(file.number) || !client->userfaultfd) continue;
        if (!map_for(*client, file, id)) return;
    }
}

// Maps it in each region of one client. False when its memory turned out to be missing.
bool FaultServer::map_for(Client& client, const WeightFile& file, ExtentId id) {
    for (const Region& region : client.regions) {
        if (region.file.get() != &file) continue;
        AddressRange range = range_of(region, id);
        if (range.length_bytes > 0 && !map_extent(client, region, id, range.address)) return false;
    }
    placement_.mapped_ahead(id);
    return true;
}

void FaultServer::map_ahead(const Client& client, const WeightFile& file, uint64_t offset_bytes,
                            uint64_t length_bytes) {
    if (file.resident_extents == 0 || !placement_.everything_fits() || ahead_.size() >= kMaxAhead ||
        placement_.policy().records_all())
        return;
    uint32_t first = file.layout.index_at(offset_bytes);
    uint32_t last = file.layout.index_at(offset_bytes + length_bytes - 1);
    ahead_.push_back({client.number, file.number, first, std::min(last + 1, file.extent_count),
                      monotonic_ns() + kNsPerMs});
}

void FaultServer::map_some_ahead() {
    Extents& extents = placement_.extents();
    uint64_t stop_ns = monotonic_ns() + kAheadSliceNs;
    while (!ahead_.empty() && monotonic_ns() < stop_ns) {
        AheadTask& task = ahead_.front();
        if (task.not_before_ns > monotonic_ns()) return;
        Client* client = sessions_.find(task.client);
        auto file = files_.find(task.file);
        // Of a changed file nothing is mapped any more: its sessions may be going back to the kernel's mapping.
        bool over = client == nullptr || file == nullptr || file->changed || task.next >= task.end ||
                    !placement_.everything_fits();
        if (over) {
            ahead_.pop_front();
            continue;
        }
        ExtentId id = file->first_extent + task.next++;
        // What is hinted is to be touched first.
        if (extents.is(id, TIERD_EXTENT_RESIDENT) && !extents.heat().hinted(id)) map_for(*client, *file, id);
    }
}

// Between the reads, since to map an extent takes as long as a quarter of its reading.
void FaultServer::map_one_filled() {
    if (filled_.empty()) return;
    Extents& extents = placement_.extents();
    ExtentId id = filled_.front();
    filled_.pop_front();
    PlacedFile* file = extents.find(id);
    bool may = file != nullptr && !file->changed && extents.is(id, TIERD_EXTENT_RESIDENT);
    if (may && !extents.heat().hinted(id)) map_for_all(served(*file), id);
}

void FaultServer::on_filled(const PlacementEvent& event) {
    const ExtentId id = event.extent;
    if (auto found = waiters_.find(id); found != waiters_.end()) {
        std::vector<Waiter> list = std::move(found->second);
        waiters_.erase(found);
        for (const Waiter& waiter : list) {
            if (answer(waiter, event)) continue;
            waiters_[id].push_back(waiter);  // its memory was lost while the first of them was answered
            placement_.demand(id);
        }
    }
    if (!placement_.extents().is(id, TIERD_EXTENT_RESIDENT) || !event.map_ahead) return;
    if (placement_.policy().records_all()) return;
    filled_.push_back(id);
    if (event.foreseen) placement_.accessed(id, Touch::minor, true);
}

// False: the extent is no longer resident.
bool FaultServer::answer(const Waiter& waiter, const PlacementEvent& event) {
    const ExtentId id = event.extent;
    Client* client = sessions_.find(waiter.client);
    if (client == nullptr || client->leaving(waiter.address)) return true;
    const Region* region = client->find(waiter.address);
    if (!placement_.extents().is(id, TIERD_EXTENT_RESIDENT)) return false;
    if (region == nullptr || region->extent_at(waiter.address) != id) {
        client->userfaultfd->wake(round_down(waiter.address, kSmallPage), kSmallPage);
        return true;
    }
    const WeightFile& file = *region->file;
    if (!map_extent(*client, *region, id, waiter.address)) return false;
    measure(*client, file, waiter, event);
    return true;
}

void FaultServer::measure(Client& client, const WeightFile& file, const Waiter& waiter,
                          const PlacementEvent& event) {
    uint64_t mapped_ns = monotonic_ns();
    uint64_t stored_ns = placement_.extents()[event.extent].filled_ns;
    uint64_t waited_ns = mapped_ns - waiter.arrived_ns;
    SlowFault fault{.pid = client.peer.pid,
                    .path = {},
                    .extent = file.index_of(event.extent),
                    .since_ns = waiter.arrived_ns - std::min(waiter.arrived_ns, started_ns_),
                    .queue_ns = event.started_ns - std::min(event.started_ns, waiter.arrived_ns),
                    .read_ns = event.read_ns - event.started_ns,
                    .check_ns = stored_ns - event.read_ns,
                    .map_ns = mapped_ns - stored_ns,
                    .whole_ns = waited_ns};
    backend_.reader_waited(WaitKind::missing, waiter.arrived_ns);
    profile_.add(FaultStage::queue, fault.queue_ns);
    profile_.add(FaultStage::read, fault.read_ns);
    profile_.add(FaultStage::check, fault.check_ns);
    profile_.add(FaultStage::map, fault.map_ns);
    profile_.add(FaultStage::whole, fault.whole_ns);
    client.slowest_fault_ns = std::max(client.slowest_fault_ns, waited_ns);
    uint64_t& slowest_ns = placement_.counters().slowest_fault_ns;
    slowest_ns = std::max(slowest_ns, waited_ns);
    if (waited_ns <= slowest_.whole_ns) return;
    slowest_ = fault;
    slowest_.path = file.path;
}

// Nobody waits for this extent any longer: they go on with the kernel's mapping.
void FaultServer::on_failed(ExtentId id, FallBackReason reason) {
    auto found = waiters_.find(id);
    if (found == waiters_.end()) return;
    std::vector<Waiter> list = std::move(found->second);
    waiters_.erase(found);
    const WeightFile& file = served(placement_.extents().file_of(id));
    for (const Waiter& waiter : list)
        if (Client* client = sessions_.find(waiter.client))
            sessions_.command_fall_back(*client, {file.number, file.offset_of(id), file.memory_of(id), {}},
                                        reason);
}

void FaultServer::check_deadlines() {
    uint64_t now = monotonic_ns();
    for (auto& [id, list] : waiters_) {
        const WeightFile& file = served(placement_.extents().file_of(id));
        for (Waiter& waiter : list) {
            if (now - waiter.arrived_ns < deadline_ms_ * kNsPerMs) continue;
            waiter.arrived_ns = now;  // asked once a deadline, not once an epoch
            Client* client = sessions_.find(waiter.client);
            if (client == nullptr) continue;
            spdlog::warn("pid {} waited {} ms for extent {} of {}: it falls back to the kernel's mapping",
                         client->peer.pid, deadline_ms_, file.index_of(id), file.path);
            sessions_.command_fall_back(*client, {file.number, file.offset_of(id), file.memory_of(id), {}},
                                        FallBackReason::deadline);
        }
    }
}

}  // namespace tierd
