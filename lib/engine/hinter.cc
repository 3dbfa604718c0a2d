#include "lib/engine/hinter.h"

#include <fcntl.h>

#include <algorithm>

#include "lib/base/bytes.h"
#include "lib/base/clock.h"
#include "lib/engine/core.h"
#include "lib/migrate/node_memory.h"
#include "lib/session/packet.h"

namespace tierd {

namespace {

constexpr uint64_t kSmallPage = 4 * kKiB;
constexpr uint64_t kHugePage = 2 * kMiB;
constexpr uint32_t kArmedAnEpoch = 256;  // for a complete recording: some 10 ms

}  // namespace

Hinter::Hinter(Config config, Placement& placement, FileRegistry& files, Sessions& sessions,
               AccessSampler& sampler, Mailbox& mailbox, Worker& evictor)
    : config_(config),
      placement_(placement),
      files_(files),
      sessions_(sessions),
      sampler_(sampler),
      mailbox_(mailbox),
      evictor_(evictor),
      budget_(config.share_of_core) {}

bool Hinter::map_huge(Client& client, const Region& region, ExtentId id, const Fault& fault,
                      uint64_t arrived_ns) {
    AddressRange range = range_of(region, id);
    bool huge = range.length_bytes == kHugePage && range.address % kHugePage == 0 &&
                placement_.extents().is_huge(id) && !placement_.mover().is_moving(id) && !client.no_huge &&
                client.memory != nullptr && make_waker(client);
    if (!huge) return false;
    evictor_.post([&mailbox = mailbox_, number = client.number, memory = client.memory, waker = client.waker,
                   range, touched = fault.address, arrived_ns, cost = worker_cost_] {
        uint64_t begin_ns = thread_cpu_ns();
        bool mapped = memory->map_huge(range.address, range.length_bytes).has_value();
        if (mapped) waker->wake(range.address, range.length_bytes);
        cost->cpu_ns += thread_cpu_ns() - begin_ns;
        cost->wait_ns += monotonic_ns() - arrived_ns;
        mailbox.post([number, touched, mapped, arrived_ns](Core& core) {
            mapped ? core.backend.reader_waited(WaitKind::hinted, arrived_ns)
                   : core.faults.retry(number, touched);
        });
    });
    return true;
}

// A second descriptor of the client's userfaultfd, for the evictor.
bool Hinter::make_waker(Client& client) {
    if (client.waker != nullptr) return true;
    Fd copy(::fcntl(client.userfaultfd->fd(), F_DUPFD_CLOEXEC, 0));
    if (!copy) return false;
    auto adopted = Userfaultfd::adopt(std::move(copy));
    if (adopted) client.waker = std::make_shared<Userfaultfd>(std::move(*adopted));
    return adopted.has_value();
}

void Hinter::on_waited(uint64_t arrived_ns) {
    budget_.waited(monotonic_ns() - arrived_ns);
}

void Hinter::on_touched(const Client& client, const WeightFile& file, ExtentId id, const Fault& fault,
                        uint64_t arrived_ns) {
    round_hints_++;
    budget_.touched();
    budget_.waited(woken_late_ns_);
    auto pid = static_cast<uint32_t>(client.peer.pid);
    int node = thread_nodes_.node_of(pid, fault.thread, arrived_ns);
    sampler_.readers().add_thread(file.name, pid, fault.thread, node, 1);
    placement_.extents().heat().read_from(id, node, 1, arrived_ns);
}

void Hinter::end_round() {
    if (!config_.on) return;
    uint64_t cpu_ns = thread_cpu_ns();
    uint64_t round_ns = cpu_ns - std::exchange(round_cpu_ns_, cpu_ns);
    if (round_hints_ > 0) budget_.spent(round_ns * round_hints_ / std::max(round_faults_, round_hints_));
    round_hints_ = round_faults_ = 0;
}

void Hinter::on_access(ExtentId id) {
    if (!placement_.policy().records_all()) return;
    ExtentId before = std::exchange(last_access_, id);
    if (before != id) arm_mapped(before);
}

// What was mapped before the recording began, or by others than the last toucher.
void Hinter::arm_some_mapped() {
    const uint32_t rows = placement_.extents().size();
    uint32_t armed = 0;
    for (uint32_t looked = 0; looked < rows && armed < kArmedAnEpoch; looked++) {
        if (next_mapped_ >= rows) next_mapped_ = 0;
        ExtentId id = next_mapped_++;
        if (id != last_access_ && arm_mapped(id)) armed++;
    }
}

bool Hinter::arm_mapped(ExtentId id) {
    Extents& extents = placement_.extents();
    PlacedFile* file = extents.find(id);
    bool may = file != nullptr && !file->changed && extents.is(id, TIERD_EXTENT_RESIDENT) &&
               extents.has_flag(id, TIERD_EXTENT_MAPPED) && !extents.heat().hinted(id) &&
               !placement_.mover().is_moving(id);
    if (!may || !hint(id)) return false;
    placement_.armed(id);
    return true;
}

void Hinter::epoch(uint64_t now_ns, bool is_waiting) {
    if (placement_.policy().records_all()) arm_some_mapped();
    const uint64_t wall_ns = now_ns - std::exchange(last_epoch_ns_, now_ns);
    if (!config_.on) return;
    budget_.spent(worker_cost_->cpu_ns.exchange(0));
    budget_.waited(worker_cost_->wait_ns.exchange(0));
    woken_late_ns_ = run_delay_.step_ns();
    budget_.end_epoch(wall_ns, std::exchange(hints_sent_, 0));
    uint64_t before = thread_cpu_ns();
    mark_hintable(now_ns);
    update_boundaries();
    if (!is_waiting && !sampler_.is_paused()) hint_some();
    refresh_heat(now_ns);
    budget_.spent(thread_cpu_ns() - before);
}

// A file is left alone while its touches wait for the disk: those are seen anyway, and each hint would come on top. So is one
// that a session without the ability has mapped: its touches would be missed.
void Hinter::mark_hintable(uint64_t now_ns) {
    const uint64_t calm_ns = 2 * config_.epoch_ms * kNsPerMs;
    for (auto& [number, file] : files_.all()) {
        file->calm = !file->changed && now_ns > file->missed_ns + calm_ns;
        file->arms_hints = true;
    }
    for (auto& [number, client] : sessions_.all())
        for (const Region& region : client->regions)
            if (!client->peer.arms_hints) region.file->arms_hints = false;
}

void Hinter::update_boundaries() {
    std::vector<uint64_t> capacities;
    for (const Tier* tier : placement_.tiers().by_speed())
        if (!tier->closed) capacities.push_back(tier->capacity_bytes());
    chooser_.see_tiers(std::move(capacities));
}

void Hinter::hint_some() {
    Extents& extents = placement_.extents();
    auto may = [&](ExtentId id) {
        PlacedFile* placed = extents.find(id);
        if (placed == nullptr || placement_.mover().is_moving(id)) return false;
        const WeightFile& file = served(*placed);
        return file.calm && (file.has_small_pages(id) || (file.arms_hints && config_.huge_pages));
    };
    auto chosen = chooser_.choose(extents.used(), extents.heat(), budget_.budget(), may);
    for (ExtentId id : chosen) {
        if (!hint(id)) continue;
        placement_.armed(id);
        hints_sent_++;
        placement_.counters().hints++;
    }
}

// A page at random: who reads only a part of the extent is seen as often as the part is large.
bool Hinter::hint(ExtentId id) {
    Extents& extents = placement_.extents();
    WeightFile& file = served(extents.file_of(id));
    uint64_t pages = file.memory_of(id) / kSmallPage;
    uint64_t page = file.offset_of(id) + random_() % pages * kSmallPage;
    if (file.has_small_pages(id)) {
        PreferNode prefer(placement_.tiers().preferred_node(extents[id].tier));
        if (file.arena.rearm_page(page)) return true;
        placement_.lost(id);
        return false;
    }
    auto order = make_message<wire::FallBack>(wire::Kind::arm_hint, 0);
    order.file = file.number;
    order.offset_bytes = page;
    order.length_bytes = kSmallPage;
    bool sent = false;
    for (auto& [number, client] : sessions_.all())
        if (client->maps(file.number) && send_message(client->command_channel.get(), order)) sent = true;
    return sent;
}

// What is exposed and not touched cools, though nothing happens.
void Hinter::refresh_heat(uint64_t now_ns) {
    Extents& extents = placement_.extents();
    const uint32_t size = extents.size();
    for (uint32_t i = 0; i < chooser_.looked_count() && size > 0; i++) {
        ExtentId id = (chooser_.looked_first() + i) % size;
        if (!extents.heat().armed(id)) continue;
        HeatEstimator::Estimate estimate = extents.heat().estimate(id, now_ns);
        if (estimate.samples == 0) continue;
        extents[id].heat = estimate.heat;
        extents[id].samples = estimate.samples;
    }
}

}  // namespace tierd
