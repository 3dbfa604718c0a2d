// core_files.cc - the engine's thread: which weight files are served, to whom, and when that ends.
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <algorithm>

#include "lib/base/bytes.h"
#include "lib/base/clock.h"
#include "lib/engine/core.h"
#include "lib/policy/row_links.h"
#include "lib/session/packet.h"

namespace tierd {

static constexpr size_t kMaxMapAhead = 4096;  // a client may map and unmap faster than this is worked off

Client* Core::find_client(uint64_t number) {
    auto found = clients_.find(number);
    return found == clients_.end() ? nullptr : found->second.get();
}

Result<uint64_t> Core::open_client(const Peer& peer, Fd notice, std::string command, uint64_t cgroup) {
    if (stopping_) return fail(Code::busy, "open session", {}, "tierd is shutting down");
    auto client = std::make_unique<Client>();
    client->number = next_client_++;
    client->peer = peer;
    client->command = std::move(command);
    client->cgroup = cgroup;
    client->notice = std::move(notice);
    counters_.sessions_opened++;
    uint64_t number = client->number;
    clients_[number] = std::move(client);
    return number;
}

void Core::close_client(uint64_t number) {
    auto found = clients_.find(number);
    if (found == clients_.end()) return;
    auto client = std::move(found->second);
    clients_.erase(found);
    // The process may still hold the description, so closing our descriptor would not end the watch.
    if (client->userfaultfd) readiness_.remove(client->userfaultfd->fd());
    if (sampler_ != nullptr) book_.end_process(static_cast<uint32_t>(client->peer.pid), monotonic_ns());
    client->regions.clear();
    for (uint64_t file_number : client->files) {
        auto file = files_.at(file_number);
        if (--file->clients > 0) continue;
        attached_bytes_ -= file->size_bytes();
        remember_order(*file);
        // Nobody is left who wished for it.
        std::erase_if(will_need_, [&](ExtentId id) {
            return id >= file->first_extent && id - file->first_extent < file->extent_count;
        });
        tell_last_session(*file);
        drop_file_if_idle(file);
    }
}

std::shared_ptr<WeightFile> Core::find_file(const FileIdentity& identity) const {
    for (auto& [number, file] : files_)
        if (!file->changed && file->origin.identity == identity) return file;
    return nullptr;
}

Result<std::shared_ptr<WeightFile>> Core::adopt_file(std::shared_ptr<WeightFile> file) {
    if (auto twin = find_file(file->origin.identity)) return twin;
    auto rows = table_.take(file->extent_count);
    if (!rows)
        return fail(Code::no_space, "serve", file->path,
                    "the extent table is full; use fewer or larger extents");
    auto registered = reader_->add_file(file->origin.fd.get());
    if (!registered) {
        table_.give_back(*rows, file->extent_count);
        return std::unexpected(registered.error());
    }
    // Whoever opened it has read its header, and is about to read more.
    last_read_ns_ = monotonic_ns();
    file->number = next_file_++;
    file->first_extent = *rows;
    file->reader_file = *registered;
    // Elsewhere even the watch may wait for a file system that hangs; fills notice a change there.
    if (file->origin.local_disk) file->watch = watch_.add(file->origin.fd.get());
    auto free_slot = std::find(slots_.begin(), slots_.end(), nullptr);
    file->slot = static_cast<uint32_t>(free_slot - slots_.begin());
    if (free_slot == slots_.end()) slots_.emplace_back();
    slots_[file->slot] = file;
    files_[file->number] = file;
    fill_table(*file);
    publish_model(*file);
    PolicyModel model = as_policy_model(*file);
    policy_->model_open(view(), model);
    if (observer_) observer_->model_opened(view(), model);
    grow_if_needed();
    spdlog::info("serving {:?}: {} in {} extents, {}, {} tensors", file->path,
                 format_bytes(file->size_bytes()), file->extent_count, backing_name(file->arena.backing()),
                 file->map.tensors.size());
    if (!file->header_error.empty())
        spdlog::warn("{:?} is served without a tensor map: {}", file->path, file->header_error);
    return file;
}

void Core::fill_table(WeightFile& file) {
    for (uint32_t index = 0; index < file.extent_count; index++) {
        tierd_extent& row = table_[file.first_extent + index];
        row = {};
        row.model = static_cast<uint16_t>(file.slot);
        row.bytes = file.memory_of(file.first_extent + index);
        ExtentLabel label = index < file.labels.size() ? file.labels[index] : ExtentLabel{};
        row.layer = label.layer;
        row.expert = label.expert;
        row.role = label.role;
        if (row.layer != TIERD_NO_LAYER) file.layers = std::max(file.layers, row.layer + 1u);
        if (row.expert != TIERD_NO_EXPERT) file.experts = std::max(file.experts, row.expert + 1u);
    }
    link_rows(table_.used(), file.first_extent, file.extent_count, file.order);
    file.labels = {};
}

Result<void> Core::attach_client(uint64_t number, const std::shared_ptr<WeightFile>& file) {
    Client* client = find_client(number);
    if (client == nullptr) {
        if (files_.contains(file->number))
            drop_file_if_idle(file);  // it may have been opened for this client alone
        return fail(Code::gone, "attach");
    }
    // It may have gone between being found and being attached: idle files are dropped on this thread.
    if (!files_.contains(file->number) || file->changed)
        return fail(Code::busy, "attach", file->path, "the file is changing");
    if (!client->files.insert(file->number).second) return {};
    if (file->clients++ > 0) return {};
    attached_bytes_ += file->size_bytes();
    tell_first_session(*file, *client);
    file->recording = file->resident_extents == 0 && file->busy_extents == 0;
    file->first_touches.clear();
    file->touched.assign(file->extent_count, false);
    return {};
}

Result<void> Core::map_region(uint64_t number, const RegionRequest& request, Fd userfaultfd) {
    Client* client = find_client(number);
    if (client == nullptr || client->lost) return fail(Code::gone, "map");
    if (stopping_) return fail(Code::busy, "map", {}, "tierd is shutting down");
    if (!client->files.contains(request.file))
        return fail(Code::denied, "map", {}, "the session has not attached that file");
    auto file = files_.at(request.file);
    const uint64_t page = file->arena.page_bytes();
    uint64_t mappable = round_up(file->size_bytes(), page);
    bool aligned =
        request.address % page == 0 && request.offset_bytes % page == 0 && request.length_bytes % page == 0;
    bool inside = request.length_bytes > 0 && request.offset_bytes <= mappable &&
                  request.length_bytes <= mappable - request.offset_bytes &&
                  request.address <= UINT64_MAX - request.length_bytes;
    if (!aligned || !inside)
        return fail(Code::bad_input, "map", file->path, "the range lies outside the file");
    if (client->regions.size() >= wire::kMaxRegionsPerSession) return fail(Code::no_space, "map", file->path);
    if (userfaultfd && !client->userfaultfd) {
        auto adopted = Userfaultfd::adopt(std::move(userfaultfd));
        if (!adopted) return std::unexpected(adopted.error());
        if (auto watched = readiness_.add(adopted->fd(), number); !watched) return watched;
        client->userfaultfd = std::move(*adopted);
    }
    if (!client->userfaultfd)
        return fail(Code::bad_input, "map", file->path, "no userfaultfd came with the first region");
    client->add_region({.address = request.address,
                        .length_bytes = request.length_bytes,
                        .offset_bytes = request.offset_bytes,
                        .file = file});
    note_mapping(*client, *client->find(request.address));
    if (file->resident_extents > 0 && everything_fits() && map_ahead_.size() < kMaxMapAhead) {
        uint32_t first = file->layout.index_at(request.offset_bytes);
        uint32_t last = file->layout.index_at(request.offset_bytes + request.length_bytes - 1);
        map_ahead_.push_back(
            {number, file->number, first, std::min(last + 1, file->extent_count), monotonic_ns() + kNsPerMs});
    }
    return {};
}

Result<void> Core::unmap_region(uint64_t number, uint64_t address, uint64_t length_bytes) {
    Client* client = find_client(number);
    if (client == nullptr) return fail(Code::gone, "unmap");
    if (address > UINT64_MAX - length_bytes) return fail(Code::bad_input, "unmap");
    client->cut(address, length_bytes);
    note_unmapping(*client, address, length_bytes);
    return {};
}

// Advice never evicts anything: what is free is filled in the order in which the model is used to be touched.
Result<void> Core::will_need(uint64_t number, uint64_t address, uint64_t length_bytes) {
    Client* client = find_client(number);
    const Region* region = client == nullptr ? nullptr : client->find(address);
    if (region == nullptr || !everything_fits() || !config_.read_ahead) return {};
    // Each extent once is all there is to wish; a client that asks without end must not fill our memory.
    if (will_need_.size() >= table_.size()) return {};
    const WeightFile& file = *region->file;
    uint64_t begin = region->offset_bytes + (address - region->address);
    uint64_t end = std::min(begin + std::min(length_bytes, region->end() - address), file.size_bytes());
    for (uint32_t index : file.order) {
        ExtentId id = file.first_extent + index;
        uint64_t offset = file.offset_of(id);
        if (offset + file.memory_of(id) > begin && offset < end && table_[id].state == TIERD_EXTENT_ABSENT)
            will_need_.push_back(id);
    }
    return {};
}

// Sends the order, and maps nothing there from now on: a page that appeared while the shim looks for the
// client's own pages could be written to and be lost.
void Core::order_fall_back(Client& client, FallBackOrder order, FallBackReason reason) {
    order.leaving = client.cut_ordered(order);
    for (const AddressRange& piece : order.leaving) note_unmapping(client, piece.address, piece.length_bytes);
    if (order.leaving.empty()) return;  // ordered already, or unmapped meanwhile
    auto message = make_message<wire::FallBack>(wire::Kind::fall_back, client.next_sequence++);
    message.file = order.file;
    message.offset_bytes = order.offset_bytes;
    message.length_bytes = order.length_bytes;
    counters_.fall_backs_ordered++;
    fall_backs_[static_cast<size_t>(reason)]++;
    bool sent = send_message(client.notice.get(), message).has_value();
    client.orders[message.header.sequence] = std::move(order);
    if (!sent) lose_client(client, FallBackReason::unheard);
}

// A shim that does not read its orders loses the session; a closed channel makes it fall back by itself.
void Core::lose_client(Client& client, FallBackReason reason) {
    fall_backs_[static_cast<size_t>(reason)]++;
    client.lost = true;
    FallBackOrder everything;
    everything.leaving = client.cut_ordered(everything);
    client.orders[client.next_sequence++] = std::move(everything);
    hang_up(client.notice.get());
}

void Core::fallen_back(uint64_t number, uint32_t sequence, int status) {
    Client* client = find_client(number);
    if (client == nullptr) return;
    auto found = client->orders.find(sequence);
    if (found == client->orders.end()) return;
    if (status != 0) spdlog::error("pid {} could not fall back: error {}", client->peer.pid, -status);
    client->orders.erase(found);
}

void Core::check_watched(int watch) {
    for (auto& [number, file] : files_) {
        bool meant = watch == -1 || file->watch == watch;  // -1: the kernel dropped events
        if (meant && !file->changed && file->origin.local_disk && !file->origin.unchanged())
            mark_changed(*file);
    }
}

// The file is no longer what its sessions attached to: nobody gets another byte of the old one.
void Core::mark_changed(WeightFile& file) {
    if (file.changed) return;
    file.changed = true;
    counters_.generations_changed++;
    spdlog::warn("{:?} changed while it was served: its sessions go on with the kernel's mapping", file.path);
    if (file.watch >= 0) watch_.remove(std::exchange(file.watch, -1));
    for (auto& [number, client] : clients_)
        if (client->maps(file.number))
            order_fall_back(*client, {file.number, 0, file.arena.length_bytes(), {}},
                            FallBackReason::changed);
    for (uint32_t index = 0; index < file.extent_count; index++) start_eviction(file.first_extent + index);
}

// What the first run after a cold start touched, in its order, is next time's read-ahead.
void Core::remember_order(WeightFile& file) {
    if (!file.recording || file.first_touches.empty() || file.changed || !state_) return;
    file.recording = false;
    memory_->post(
        [state = state_, key = identity_key(file.origin.identity),
         order = TouchOrder{file.layout.fingerprint(), std::move(file.first_touches), realtime_ns()}] {
            if (auto stored = state->store_order(key, order); !stored)
                spdlog::warn("{}", stored.error().text());
        });
    file.first_touches.clear();
}

void Core::drop_file_if_idle(const std::shared_ptr<WeightFile>& file) {
    if (file->clients == 0 && file->resident_extents == 0 && file->busy_extents == 0) close_file(file);
}

void Core::close_file(const std::shared_ptr<WeightFile>& file) {
    std::shared_ptr<WeightFile> keep = file;  // the caller's reference may be one of those dropped below
    if (keep->pinned) pinned_bytes_ -= keep->memory_bytes();
    policy_->model_close(view(), keep->slot);
    if (observer_) observer_->model_closed(view(), keep->slot);
    if (record_.tables) record_.tables->models()[keep->slot] = {};
    if (keep->watch >= 0) watch_.remove(keep->watch);
    reader_->remove_file(keep->reader_file);
    table_.give_back(keep->first_extent, keep->extent_count);
    heat_.forget(keep->first_extent, keep->extent_count);
    slots_[keep->slot] = nullptr;
    files_.erase(keep->number);
}

}  // namespace tierd
