#include "cuda_shim/cuda/source.h"

#include "cuda_shim/cuda/reserved_range.h"
#include "cuda_shim/host/place.h"
#include "cuda_shim/host/private_pages.h"
#include "cuda_shim/host/shim_state.h"

namespace tierd::shim::cuda {

namespace {

struct Found {
    bool is_arena = false;
    bool writable = false;
    uint32_t attachment = 0;
    uint64_t offset_bytes = 0;
    FileIdentity identity;
};

Found look_up(uint64_t begin, uint64_t end) {
    State& shim = state();
    Found found;
    if (!shim.owns_address_space() || shim.regions.misses(begin, end)) return found;
    Guard table(shim.table_lock);
    size_t index = shim.regions.first_behind(begin);
    if (index == shim.regions.count()) return found;
    const Region& region = shim.regions[index];
    if (region.kind != RegionKind::arena || region.begin > begin || region.end < end) return found;
    found.is_arena = true;
    found.writable = region.writable;
    found.attachment = region.file;
    found.offset_bytes = region.offset_bytes + (begin - region.begin);
    found.identity = shim.attachments[region.file].identity;
    return found;
}

}  // namespace

bool Sources::find(uint64_t address, uint64_t length_bytes, uint32_t* file, uint64_t* offset_bytes) {
    Found found = look_up(address, address + length_bytes);
    if (!found.is_arena) return false;
    if (found.offset_bytes + length_bytes > static_cast<uint64_t>(found.identity.size_bytes)) return false;
    if (found.writable && may_hold_private_pages(address, address + length_bytes)) return false;
    *file = know(found.attachment, found.identity);
    *offset_bytes = found.offset_bytes;
    return *file != kNone;
}

uint32_t Sources::row_of(const FileIdentity& identity) const {
    for (uint32_t i = 0; i < count_; i++)
        if (files_[i].identity == identity) return i;
    return kNone;
}

// The row of a file, mapped now if it was not before.
uint32_t Sources::know(uint32_t attachment, const FileIdentity& identity) {
    if (uint32_t row = row_of(identity); row != kNone) return row;
    OwnedFd fd;
    {
        Guard table(state().table_lock);
        int weights = state().attachments.weight_fd(attachment);
        if (weights >= 0 && state().attachments[attachment].identity == identity)
            fd = OwnedFd::copy_of(weights);
    }
    return map(identity, fd);
}

uint32_t Sources::know_read(const ReadPlace& place) {
    if (uint32_t row = row_of(place.identity); row != kNone) return row;
    return map(place.identity, OwnedFd::copy_of(place.fd));
}

uint32_t Sources::map(const FileIdentity& identity, OwnedFd fd) {
    MapCall call{.address = 0,
                 .length_bytes = static_cast<uint64_t>(identity.size_bytes),
                 .prot = PROT_READ,
                 .flags = MAP_PRIVATE,
                 .fd = fd.fd,
                 .offset_bytes = 0};
    long mapped = 0;
    if (fd.fd < 0 || count_ == kMaxFiles || !map_weights(call, &mapped) || sys::failed(mapped)) {
        fd.close();
        return kNone;
    }
    uint64_t number = 0;
    {
        Guard table(state().table_lock);
        uint32_t attachment = state().attachments.find(identity);
        if (attachment != kNoAttachment) {
            number = state().attachments[attachment].number;
            state().attachments.unpin(attachment);
        }
    }
    files_[count_] = {identity, static_cast<uint64_t>(mapped), number, fd};
    return count_++;
}

bool Sources::unchanged(uint32_t file) const {
    const File& row = files_[file];
    struct stat st{};
    return row.fd.still_ours() && sys::fstat(row.fd.fd, &st) == 0 && FileIdentity::of(st) == row.identity;
}

}  // namespace tierd::shim::cuda
