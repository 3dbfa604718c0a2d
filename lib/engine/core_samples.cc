// core_samples.cc - the engine's thread: how hot extents are, from what is seen and what is made to be seen.
//
// Two kinds of hints, both without stopping anybody: a page of an extent with small pages is taken out of the arena and
// put back (watch_extent); where the extent is a huge page that would cost all of it, so its sessions are asked to unmap a
// page (wire::Kind::show_touch). A session that was asked and does not obey hides its touches, which makes the extent look
// colder than it is, and costs nothing else.
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cmath>
#include <ctime>

#include "lib/base/bytes.h"
#include "lib/base/clock.h"
#include "lib/engine/core.h"
#include "lib/session/packet.h"

namespace tierd {

namespace {

constexpr uint32_t kOneTouch = 1u << 16;
constexpr uint64_t kSmallPage = 4 * kKiB;
constexpr double kReadersHalfLife = 0.5;  // of who read what, each kHeatHalfLifeNs

uint32_t saturating_add(uint32_t value, uint32_t more) {
    return value > UINT32_MAX - more ? UINT32_MAX : value + more;
}

}  // namespace

// A touch of `id` was seen. Without observations of how long it took to come, heat is a decayed count of those seen.
void Core::count_touch(ExtentId id, uint64_t now_ns) {
    tierd_extent& row = table_[id];
    bool hinted = heat_.hinted(id);
    heat_.touched(id, now_ns);
    if (hinted) counters_.hints_touched++;
    HeatLedger::Estimate estimate = heat_.estimate(id, now_ns);
    if (estimate.samples == 0) {
        uint64_t age_ns = now_ns - std::min<uint64_t>(now_ns, row.last_touch_ns);
        double kept = std::exp2(-static_cast<double>(age_ns) / static_cast<double>(kHeatHalfLifeNs));
        estimate.heat = saturating_add(static_cast<uint32_t>(row.heat * kept), kOneTouch);
    }
    row.heat = estimate.heat;
    row.samples = estimate.samples;
}

// A touch of a hinted extent. Where the kernel had mapped it by one entry, that is the cheapest to make again; but the
// call may wait for other processors, so it is the evictor's, behind which no eviction of this extent can have been posted: it is
// resident.
bool Core::map_hinted(Client& client, const Region& region, ExtentId id, const Fault& fault,
                      uint64_t arrived_ns) {
    constexpr uint64_t kHugePage = 2 * kMiB;
    AddressRange range = range_of(region, id);
    bool huge = range.length_bytes == kHugePage && range.address % kHugePage == 0 && is_huge(id) &&
                !moves_.contains(id) && !client.no_huge && client.memory != nullptr && make_waker(client);
    if (!huge) {
        bool mapped = map_extent(client, region, id, fault.address, region.file->has_small_pages(id));
        hint_budget_.waited(monotonic_ns() - arrived_ns);
        reader_waited(WaitKind::minor, arrived_ns);
        return mapped;
    }
    evictor_->post([mailbox = mailbox_, number = client.number, memory = client.memory, waker = client.waker,
                    range, touched = fault.address, arrived_ns, cost = hint_side_] {
        uint64_t begin_ns = thread_cpu_ns();
        bool mapped = memory->map_huge(range.address, range.length_bytes).has_value();
        if (mapped) waker->wake(range.address, range.length_bytes);
        cost->cpu_ns += thread_cpu_ns() - begin_ns;
        cost->wait_ns += monotonic_ns() - arrived_ns;
        mailbox->post([number, touched, mapped, arrived_ns](Core& core) {
            mapped ? core.reader_waited(WaitKind::hinted, arrived_ns) : core.retry_touch(number, touched);
        });
    });
    return true;
}

// Who touched what was hinted.
void Core::note_hinted(Client& client, const WeightFile& file, ExtentId id, const Fault& fault,
                       uint64_t arrived_ns) {
    round_hints_++;
    hint_budget_.touched();
    hint_budget_.waited(woken_late_ns_);
    auto pid = static_cast<uint32_t>(client.peer.pid);
    int node = thread_nodes_.node_of(pid, fault.thread, arrived_ns);
    readers_.add_thread(file.name, pid, fault.thread, node, 1);
    heat_.read_from(id, node, 1, arrived_ns);
}

// A second descriptor of the client's userfaultfd, for the evictor.
bool Core::make_waker(Client& client) {
    if (client.waker != nullptr) return true;
    Fd copy(::fcntl(client.userfaultfd->fd(), F_DUPFD_CLOEXEC, 0));
    if (!copy) return false;
    auto adopted = Userfaultfd::adopt(std::move(copy));
    if (adopted) client.waker = std::make_shared<Userfaultfd>(std::move(*adopted));
    return adopted.has_value();
}

void Core::retry_touch(uint64_t number, uint64_t address) {
    Client* client = find_client(number);
    if (client != nullptr) handle_fault(*client, {.address = address});
}

void Core::sample_epoch() {
    const uint64_t now = monotonic_ns();
    const uint64_t wall_ns = now - std::exchange(sampled_ns_, now);
    if (now > readers_decayed_ns_ + kHeatHalfLifeNs) {
        readers_.decay(kReadersHalfLife);
        readers_decayed_ns_ = now;
    }
    if (sampler_ != nullptr) sampler_->see(book_.publish(now));
    if (!hints_on_) return;
    hint_budget_.spent(hint_side_->cpu_ns.exchange(0));
    hint_budget_.waited(hint_side_->wait_ns.exchange(0));
    woken_late_ns_ = run_delay_.step_ns();
    hint_budget_.end_epoch(wall_ns, hints_sent_);
    hints_sent_ = 0;
    uint64_t before = thread_cpu_ns();
    mark_hintable(now);
    see_tier_boundaries();
    if (waiters_.empty() && !sampling_paused_) expose_some();
    refresh_heat(now);
    hint_budget_.spent(thread_cpu_ns() - before);
}

// A file is left alone while its touches wait for the disk: those are seen anyway, and each hint would come on top. So is one
// that a session without the ability has mapped: its touches would be missed.
void Core::mark_hintable(uint64_t now_ns) {
    const uint64_t calm_ns = 2 * config_.epoch_ms * kNsPerMs;
    for (auto& [number, file] : files_) {
        file->calm = !file->changed && now_ns > file->missed_ns + calm_ns;
        file->shows_touches = true;
    }
    for (auto& [number, client] : clients_)
        for (const Region& region : client->regions)
            if (!client->peer.shows_touches) region.file->shows_touches = false;
}

void Core::see_tier_boundaries() {
    std::vector<uint64_t> capacities;
    for (const Tier* tier : tiers_.by_speed())
        if (!tier->closed) capacities.push_back(tier->capacity_bytes());
    hint_chooser_.see_tiers(std::move(capacities));
}

// Extents of a huge page only where hints were asked for by name: they cost the reader more (docs/results).
void Core::expose_some() {
    auto may = [&](ExtentId id) {
        const WeightFile* file = owner_of(id);
        return file != nullptr && file->calm && !moves_.contains(id) &&
               (file->has_small_pages(id) || (file->shows_touches && config_.sample_source == "hint"));
    };
    auto chosen = hint_chooser_.choose(table_.used(), heat_, hint_budget_.budget(), may);
    for (ExtentId id : chosen) {
        if (!hint(id)) continue;
        heat_.expose(id, monotonic_ns(), true);
        hints_sent_++;
        counters_.hints++;
    }
}

// A page at random: who reads only a part of the extent is seen as often as the part is large.
bool Core::hint(ExtentId id) {
    WeightFile& file = file_of(id);
    uint64_t pages = file.memory_of(id) / kSmallPage;
    uint64_t page = file.offset_of(id) + random_() % pages * kSmallPage;
    if (file.has_small_pages(id)) {
        PreferNode prefer(preferred_node(table_[id].tier));
        if (file.arena.renew_page(page)) return true;
        start_eviction(id, true);  // no longer whole
        return false;
    }
    auto order = make_message<wire::FallBack>(wire::Kind::show_touch, 0);
    order.file = file.number;
    order.offset_bytes = page;
    order.length_bytes = kSmallPage;
    bool sent = false;
    for (auto& [number, client] : clients_)
        if (client->maps(file.number) && send_message(client->notice.get(), order)) sent = true;
    return sent;
}

// What is exposed and not touched cools, though nothing happens.
void Core::refresh_heat(uint64_t now_ns) {
    const uint32_t size = table_.size();
    for (uint32_t i = 0; i < hint_chooser_.looked_count() && size > 0; i++) {
        ExtentId id = (hint_chooser_.looked_first() + i) % size;
        if (!heat_.exposed(id)) continue;
        HeatLedger::Estimate estimate = heat_.estimate(id, now_ns);
        if (estimate.samples == 0) continue;
        table_[id].heat = estimate.heat;
        table_[id].samples = estimate.samples;
    }
}

// What hints cost: of each round of this thread the share of its faults that hints brought.
void Core::account_hints() {
    if (!hints_on_) return;
    uint64_t cpu_ns = thread_cpu_ns();
    uint64_t round_ns = cpu_ns - std::exchange(round_cpu_ns_, cpu_ns);
    if (round_hints_ > 0) hint_budget_.spent(round_ns * round_hints_ / std::max(round_faults_, round_hints_));
    round_hints_ = round_faults_ = 0;
}

// Which extents the run, just mapped by huge entries, is made of. A page of them that was hinted meanwhile is mapped again, and
// its touch would be awaited for ever.
void Core::note_huge(uint64_t number, AddressRange run) {
    Client* client = find_client(number);
    for (uint64_t at = run.address; client != nullptr && at < run.address + run.length_bytes;
         at += 2 * kMiB) {
        const Region* region = client->find(at);
        if (region == nullptr) continue;
        ExtentId id = region->file->extent_at(region->offset_bytes + (at - region->address));
        if (heat_.hinted(id)) heat_.cover(id, monotonic_ns());
        if (huge_.size() <= id) huge_.resize(table_.size());
        if (table_[id].state == TIERD_EXTENT_RESIDENT) huge_[id] = true;
    }
}

// --- the processor's samples

void Core::take_samples(const SampleBatch& batch) {
    const uint64_t now = monotonic_ns();
    for (const SampleBatch::Extent& seen : batch.extents) {
        auto file = files_.find(seen.file);
        if (file == files_.end() || seen.index >= file->second->extent_count) continue;
        ExtentId id = file->second->first_extent + seen.index;
        // Lines of memory, as parts of the extent: so heat means the same from every source.
        double touches = seen.accesses * 64 / file->second->memory_of(id);
        heat_.count(id, touches, now);
        heat_.read_from(id, seen.node, touches, now);
        HeatLedger::Estimate estimate = heat_.estimate(id, now);
        table_[id].heat = estimate.heat;
        table_[id].samples = estimate.samples;
        if (seen.last_ns > table_[id].last_touch_ns) table_[id].last_touch_ns = seen.last_ns;
    }
    for (const SampleBatch::Reader& reader : batch.readers)
        readers_.add(reader.model, reader.code, reader.pid, reader.tid, reader.node, reader.accesses);
}

void Core::note_mapping(const Client& client, const Region& region) {
    if (sampler_ == nullptr) return;
    if (region.file->sampled == nullptr) {
        auto sampled = std::make_shared<SampledFile>();
        sampled->number = region.file->number;
        sampled->name = region.file->name;
        sampled->layout = region.file->layout;
        region.file->sampled = std::move(sampled);
    }
    book_.add(static_cast<uint32_t>(client.peer.pid), {.address = region.address,
                                                       .length_bytes = region.length_bytes,
                                                       .offset_bytes = region.offset_bytes,
                                                       .since_ns = monotonic_ns(),
                                                       .file = region.file->sampled});
}

void Core::note_unmapping(const Client& client, uint64_t address, uint64_t length_bytes) {
    if (sampler_ != nullptr)
        book_.remove(static_cast<uint32_t>(client.peer.pid), address, length_bytes, monotonic_ns());
}

void Core::pause_sampling(bool paused) {
    sampling_paused_ = paused;
    if (sampler_ != nullptr) sampler_->pause(paused);
}

void Core::start_sampler(const std::string& source, std::unique_ptr<Sampler> sampler) {
    source_used_ = source;
    sampler_ = std::move(sampler);
    hints_on_ = false;  // one source at a time: both would count the same touches
}

// --- administrators

std::vector<SourceStatus> Core::sources() const {
    std::vector<SourceStatus> list;
    for (const SourceOffer& offer : offers_) {
        SourceStatus status;
        status.name = offer.name;
        status.tells = offer.tells;
        status.event = offer.event;
        status.available = offer.available;
        status.why_not = offer.why_not;
        bool hint = offer.name == "hint";
        status.used = hint ? hints_on_ : source_used_ == offer.name;
        if (status.available && !status.used)
            status.why_not =
                hints_on_ || sampler_ != nullptr ? "another source is used" : "[sample] source is off";
        if (status.used && sampling_paused_)
            status.why_not = "it is paused, until `tierctl sources --resume`";
        if (hint) {
            status.records = counters_.hints_touched;
            status.cost_share = hint_budget_.cost_share();
            status.wait_share = hint_budget_.wait_share();
            status.rate = static_cast<double>(hint_budget_.budget()) * 1000 / config_.epoch_ms;
        } else if (status.used) {
            SamplerStatus now = sampler_->status();
            status.records = now.counters.records;
            status.lost = now.counters.lost;
            status.throttled = now.counters.throttled;
            status.damaged = now.counters.damaged;
            status.elsewhere = now.elsewhere;
            status.ended = now.ended;
            status.cost_share = now.cost_share;
            status.period = now.period;
        }
        list.push_back(std::move(status));
    }
    return list;
}

HeatSnapshot Core::heat_snapshot() {
    const uint64_t now = monotonic_ns();
    HeatSnapshot snapshot;
    snapshot.readers = readers_;
    for (auto& [number, file] : files_) {
        HeatSnapshot::File one;
        one.file = file;
        one.extents.reserve(file->extent_count);
        one.reader_nodes.reserve(file->extent_count);
        for (ExtentId id = file->first_extent; id < file->first_extent + file->extent_count; id++) {
            tierd_extent row = table_[id];
            // Rows are written when something happens; what has happened to nobody since has cooled.
            HeatLedger::Estimate estimate = heat_.estimate(id, now);
            if (estimate.samples > 0) row.heat = estimate.heat, row.samples = estimate.samples;
            one.extents.push_back(row);
            one.reader_nodes.push_back(heat_.reader_node(id));
        }
        snapshot.files.push_back(std::move(one));
    }
    return snapshot;
}

Result<HeatmapStatus> Core::heatmap(const std::string& model) {
    auto named = files_named(model);
    if (!named) return std::unexpected(named.error());
    const WeightFile& file = *named->front();
    const uint64_t now = monotonic_ns();
    HeatmapStatus map;
    map.model = describe(file);
    for (ExtentId id = file.first_extent; id < file.first_extent + file.extent_count; id++) {
        const tierd_extent& row = table_[id];
        HeatLedger::Estimate estimate = heat_.estimate(id, now);
        if (estimate.samples == 0) estimate.heat = row.heat;
        map.extents.push_back({.offset_bytes = file.offset_of(id),
                               .bytes = row.bytes,
                               .layer = row.layer == TIERD_NO_LAYER ? -1 : row.layer,
                               .expert = row.expert == TIERD_NO_EXPERT ? -1 : row.expert,
                               .role = role_name(row.role),
                               .tier = row.tier,
                               .resident = row.state == TIERD_EXTENT_RESIDENT,
                               .heat = estimate.heat / 65536.0,
                               .samples = estimate.samples,
                               .reader_node = heat_.reader_node(id),
                               .gpus = {}});
    }
    return map;
}

}  // namespace tierd
