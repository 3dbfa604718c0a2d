#include "lib/engine/huge_mapper.h"

#include <spdlog/spdlog.h>

#include <cerrno>

#include "lib/base/bytes.h"
#include "lib/base/clock.h"
#include "lib/engine/core.h"

namespace tierd {

namespace {

constexpr uint64_t kHugePage = 2 * kMiB;
constexpr uint64_t kMostAtOnce = 32 * kHugePage;  // about a millisecond, for which evictions wait

}  // namespace

void HugeMapper::request(const Client& client, const Region& region, ExtentId id, AddressRange range) {
    bool fits = range.length_bytes == kHugePage && range.address % kHugePage == 0;
    if (fits && region.file->backing == Backing::shmem_thp && !region.file->has_small_pages(id) &&
        !client.no_huge && placement_.everything_fits())
        requests_.push_back({client.number, range.address});
}

// The range of the request, where the client still maps a resident extent there; else empty.
AddressRange HugeMapper::range_now(const Request& request) {
    const Client* client = sessions_.find(request.client);
    const Region* region = client == nullptr || client->no_huge ? nullptr : client->find(request.address);
    if (region == nullptr) return {};
    WeightFile& file = *region->file;
    ExtentId id = region->extent_at(request.address);
    AddressRange range = range_of(*region, id);
    bool same = range.address == request.address && range.length_bytes == kHugePage &&
                !file.has_small_pages(id) && placement_.extents().is(id, TIERD_EXTENT_RESIDENT);
    return same ? range : AddressRange{};
}

// Takes the first requests that lie side by side in one client. Empty: there are none left.
AddressRange HugeMapper::next_run(uint64_t& client) {
    AddressRange run;
    while (!requests_.empty() && run.length_bytes < kMostAtOnce) {
        Request request = requests_.front();
        AddressRange range = range_now(request);
        bool beside = run.length_bytes == 0 ||
                      (request.client == client && range.address == run.address + run.length_bytes);
        if (range.length_bytes > 0 && !beside) break;
        requests_.pop_front();
        if (range.length_bytes == 0) continue;
        if (run.length_bytes == 0) run.address = range.address;
        run.length_bytes += range.length_bytes;
        client = request.client;
    }
    return run;
}

void HugeMapper::map_some() {
    if (under_way_ || !placement_.is_quiet()) return;
    if (!placement_.everything_fits()) requests_.clear();
    uint64_t number = 0;
    AddressRange run = next_run(number);
    Client* client = sessions_.find(number);
    if (run.length_bytes == 0 || client == nullptr) return;
    if (client->memory == nullptr) {
        auto memory = ClientMemory::of(client->peer.pid);
        if (!memory) {
            client->no_huge = true;
            return;
        }
        client->memory = std::make_shared<const ClientMemory>(std::move(*memory));
    }
    under_way_ = true;
    evictor_.post([&mailbox = mailbox_, number, run, memory = client->memory] {
        auto mapped = memory->map_huge(run.address, run.length_bytes);
        int error = mapped ? 0 : mapped.error().err;
        mailbox.post([number, run, error](Core& core) { core.huge.on_mapped(number, run, error); });
    });
}

// A client whose pages the kernel refuses to map so (it may write there, or is not ours to advise) is left alone.
void HugeMapper::on_mapped(uint64_t number, AddressRange run, int error) {
    under_way_ = false;
    if (error == 0) {
        placement_.counters().huge_mappings += run.length_bytes / kHugePage;
        mark_huge(number, run);
    }
    Client* client = sessions_.find(number);
    if (client != nullptr && (error == EPERM || error == EINVAL || error == ENOSYS)) {
        client->no_huge = true;
        spdlog::debug("pid {} keeps small mappings: error {}", client->peer.pid, error);
    }
    map_some();
}

// The extents of the run are one huge page each, for certain. A page of them that was hinted meanwhile is mapped again, and
// its touch would be awaited for ever.
void HugeMapper::mark_huge(uint64_t number, AddressRange run) {
    Client* client = sessions_.find(number);
    Extents& extents = placement_.extents();
    for (uint64_t at = run.address; client != nullptr && at < run.address + run.length_bytes;
         at += kHugePage) {
        const Region* region = client->find(at);
        if (region == nullptr) continue;
        ExtentId id = region->extent_at(at);
        if (extents.heat().hinted(id)) placement_.mapped_ahead(id);
        if (extents.is(id, TIERD_EXTENT_RESIDENT)) extents.set_huge(id, true);
    }
}

}  // namespace tierd
