// core_huge.cc - the engine's thread: extents that stay get huge mappings.
//
// UFFDIO_CONTINUE maps a huge page by 512 small entries, which costs a reader of a whole model 2 to 10 % of the
// memory's rate. One call turns them into one entry, without the client's help. That is work for idle times and
// for models that fit: what is soon evicted is not worth it.
//
// The call maps whatever is in the arena, so it must never meet an extent that is being filled again. It runs
// on the evictor's thread, in the order in which jobs were posted: whatever is resident when it is posted can't
// be evicted before it has run.
#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include "lib/base/bytes.h"
#include "lib/engine/core.h"

namespace tierd {

namespace {

constexpr uint64_t kHugePage = 2 * kMiB;
constexpr uint64_t kMostAtOnce = 32 * kHugePage;  // about a millisecond, for which evictions wait

}  // namespace

// Remembers what was just mapped by small entries.
void Core::wish_huge(Client& client, const Region& region, ExtentId id, AddressRange range) {
    const Arena& arena = region.file->arena;
    bool fits = range.length_bytes == kHugePage && range.address % kHugePage == 0;
    if (fits && arena.backing() == Backing::shmem_thp && !region.file->has_small_pages(id) &&
        !client.no_huge && everything_fits())
        huge_wishes_.push_back({client.number, range.address});
}

// The range of the wish, where it still stands: the client maps a resident extent there.
AddressRange Core::huge_range(const HugeWish& wish) {
    const Client* client = find_client(wish.client);
    const Region* region = client == nullptr || client->no_huge ? nullptr : client->find(wish.address);
    if (region == nullptr) return {};
    WeightFile& file = *region->file;
    ExtentId id = file.extent_at(region->offset_bytes + (wish.address - region->address));
    AddressRange range = range_of(*region, id);
    bool stands = range.address == wish.address && range.length_bytes == kHugePage &&
                  !file.has_small_pages(id) && table_[id].state == TIERD_EXTENT_RESIDENT;
    return stands ? range : AddressRange{};
}

// Takes the first wishes that lie side by side in one client. Empty: there are none left.
AddressRange Core::next_huge_run(uint64_t& client) {
    AddressRange run;
    while (!huge_wishes_.empty() && run.length_bytes < kMostAtOnce) {
        HugeWish wish = huge_wishes_.front();
        AddressRange range = huge_range(wish);
        bool beside = run.length_bytes == 0 ||
                      (wish.client == client && range.address == run.address + run.length_bytes);
        if (range.length_bytes > 0 && !beside) break;
        huge_wishes_.pop_front();
        if (range.length_bytes == 0) continue;
        if (run.length_bytes == 0) run.address = range.address;
        run.length_bytes += range.length_bytes;
        client = wish.client;
    }
    return run;
}

// One job at a time, and none while anything is being read.
void Core::map_some_huge() {
    if (huge_under_way_ || local_reads() > 0 || !demand_.empty()) return;
    if (!everything_fits()) huge_wishes_.clear();
    uint64_t number = 0;
    AddressRange run = next_huge_run(number);
    Client* client = find_client(number);
    if (run.length_bytes == 0 || client == nullptr) return;
    if (client->memory == nullptr) {
        auto memory = ClientMemory::of(client->peer.pid);
        if (!memory) {
            client->no_huge = true;
            return;
        }
        client->memory = std::make_shared<const ClientMemory>(std::move(*memory));
    }
    huge_under_way_ = true;
    evictor_->post([mailbox = mailbox_, number, run, memory = client->memory] {
        auto mapped = memory->map_huge(run.address, run.length_bytes);
        int error = mapped ? 0 : mapped.error().err;
        mailbox->post([number, run, error](Core& core) { core.on_mapped_huge(number, run, error); });
    });
}

// A client whose pages the kernel refuses to map so (it may write there, or is not ours to advise) is left
// alone.
void Core::on_mapped_huge(uint64_t number, AddressRange run, int error) {
    huge_under_way_ = false;
    if (error == 0) counters_.huge_mappings += run.length_bytes / kHugePage;
    if (error == 0) note_huge(number, run);
    Client* client = find_client(number);
    if (client != nullptr && (error == EPERM || error == EINVAL || error == ENOSYS)) {
        client->no_huge = true;
        spdlog::debug("pid {} keeps small mappings: error {}", client->peer.pid, error);
    }
    map_some_huge();
}

}  // namespace tierd
