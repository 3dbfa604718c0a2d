#include "lib/engine/sessions.h"

#include <spdlog/spdlog.h>

#include <algorithm>

#include "lib/base/bytes.h"
#include "lib/session/packet.h"

namespace tierd {

namespace {

Result<void> check(const RegionRequest& request, const WeightFile& file) {
    const uint64_t page = file.arena.page_bytes();
    const uint64_t mappable = round_up(file.size_bytes(), page);
    bool aligned =
        request.address % page == 0 && request.offset_bytes % page == 0 && request.length_bytes % page == 0;
    bool inside = request.length_bytes > 0 && request.offset_bytes <= mappable &&
                  request.length_bytes <= mappable - request.offset_bytes &&
                  request.address <= UINT64_MAX - request.length_bytes;
    if (aligned && inside) return {};
    return fail(Code::bad_input, "map", file.path, "the range lies outside the file");
}

}  // namespace

Client* Sessions::find(uint64_t number) {
    auto found = clients_.find(number);
    return found == clients_.end() ? nullptr : found->second.get();
}

uint64_t Sessions::open(const Peer& peer, Fd command_channel, std::string command, uint64_t cgroup) {
    auto client = std::make_unique<Client>();
    client->number = next_number_++;
    client->peer = peer;
    client->command = std::move(command);
    client->cgroup = cgroup;
    client->command_channel = std::move(command_channel);
    placement_.counters().sessions_opened++;
    uint64_t number = client->number;
    clients_[number] = std::move(client);
    return number;
}

void Sessions::close(uint64_t number) {
    auto found = clients_.find(number);
    if (found == clients_.end()) return;
    auto client = std::move(found->second);
    clients_.erase(found);
    // The process may still hold the description, so closing our descriptor would not end the watch.
    if (client->userfaultfd) readiness_.remove(client->userfaultfd->fd());
    sampler_.on_process_end(*client);
    client->regions.clear();
    for (uint64_t file_number : client->files) {
        auto file = files_.find(file_number);
        if (file->clients == 1) files_.store_order(*file);
        placement_.detach(*file);
        files_.close_if_idle(file.get());
    }
}

Result<void> Sessions::attach(uint64_t number, const std::shared_ptr<WeightFile>& file) {
    Client* client = find(number);
    if (client == nullptr) {
        files_.close_if_idle(file.get());  // it may have been opened for this client alone
        return fail(Code::gone, "attach");
    }
    // It may have gone between being found and being attached: idle files are closed on this thread.
    if (files_.find(file->number) == nullptr || file->changed)
        return fail(Code::busy, "attach", file->path, "the file is changing");
    if (client->files.insert(file->number).second) placement_.attach(*file, client->peer.uid, client->cgroup);
    return {};
}

Result<const Region*> Sessions::map(uint64_t number, const RegionRequest& request, Fd userfaultfd) {
    Client* client = find(number);
    if (client == nullptr || client->lost) return fail(Code::gone, "map");
    if (!client->files.contains(request.file))
        return fail(Code::denied, "map", {}, "the session has not attached that file");
    auto file = files_.find(request.file);
    if (auto checked = check(request, *file); !checked) return std::unexpected(checked.error());
    if (client->regions.size() >= wire::kMaxRegionsPerSession) return fail(Code::no_space, "map", file->path);
    if (userfaultfd && !client->userfaultfd) {
        auto adopted = Userfaultfd::adopt(std::move(userfaultfd));
        if (!adopted) return std::unexpected(adopted.error());
        if (auto watched = readiness_.add(adopted->fd(), number); !watched)
            return std::unexpected(watched.error());
        client->userfaultfd = std::move(*adopted);
    }
    if (!client->userfaultfd)
        return fail(Code::bad_input, "map", file->path, "no userfaultfd came with the first region");
    client->add_region({.address = request.address,
                        .length_bytes = request.length_bytes,
                        .offset_bytes = request.offset_bytes,
                        .file = file});
    const Region* region = client->find(request.address);
    sampler_.on_mapped(*client, *region);
    return region;
}

Result<void> Sessions::unmap(uint64_t number, uint64_t address, uint64_t length_bytes) {
    Client* client = find(number);
    if (client == nullptr) return fail(Code::gone, "unmap");
    if (address > UINT64_MAX - length_bytes) return fail(Code::bad_input, "unmap");
    client->cut(address, length_bytes);
    sampler_.on_unmapped(*client, address, length_bytes);
    return {};
}

void Sessions::advise(uint64_t number, uint64_t address, uint64_t length_bytes) {
    Client* client = find(number);
    const Region* region = client == nullptr ? nullptr : client->find(address);
    if (region == nullptr) return;
    const WeightFile& file = *region->file;
    uint64_t begin = region->offset_bytes + (address - region->address);
    uint64_t end = std::min(begin + std::min(length_bytes, region->end() - address), file.size_bytes());
    placement_.advise(file, begin, end);
}

void Sessions::command_fall_back(Client& client, FallBackCommand order, FallBackReason reason) {
    order.leaving = client.cut_ordered(order);
    for (const AddressRange& piece : order.leaving)
        sampler_.on_unmapped(client, piece.address, piece.length_bytes);
    if (order.leaving.empty()) return;  // ordered already, or unmapped meanwhile
    auto message = make_message<wire::FallBack>(wire::Kind::fall_back, client.next_sequence++);
    message.file = order.file;
    message.offset_bytes = order.offset_bytes;
    message.length_bytes = order.length_bytes;
    placement_.counters().fall_backs_commanded++;
    fall_backs_[static_cast<size_t>(reason)]++;
    bool sent = send_message(client.command_channel.get(), message).has_value();
    client.commands[message.header.sequence] = std::move(order);
    if (!sent) lose(client, FallBackReason::no_ack);
}

void Sessions::command_fall_back(const WeightFile& file, FallBackReason reason) {
    for (auto& [number, client] : clients_)
        if (client->maps(file.number))
            command_fall_back(*client, {file.number, 0, file.arena.length_bytes(), {}}, reason);
}

void Sessions::command_all_back(FallBackReason reason) {
    for (auto& [number, client] : clients_)
        if (!client->regions.empty()) command_fall_back(*client, {}, reason);
}

void Sessions::lose(Client& client, FallBackReason reason) {
    fall_backs_[static_cast<size_t>(reason)]++;
    client.lost = true;
    FallBackCommand everything;
    everything.leaving = client.cut_ordered(everything);
    client.commands[client.next_sequence++] = std::move(everything);
    hang_up(client.command_channel.get());
}

void Sessions::lose_all(FallBackReason reason) {
    for (auto& [number, client] : clients_)
        if (!client->lost) lose(*client, reason);
}

void Sessions::on_fallen_back(uint64_t number, uint32_t sequence, int status) {
    Client* client = find(number);
    if (client == nullptr || !client->commands.contains(sequence)) return;
    if (status != 0) spdlog::error("pid {} could not fall back: error {}", client->peer.pid, -status);
    client->commands.erase(sequence);
}

bool Sessions::has_orders() const {
    return std::any_of(clients_.begin(), clients_.end(),
                       [](auto& entry) { return !entry.second->commands.empty(); });
}

}  // namespace tierd
