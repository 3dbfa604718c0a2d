#include "cuda_shim/host/place.h"

#include <fcntl.h>

#include "cuda_shim/host/match.h"
#include "cuda_shim/host/shim_state.h"
#include "cuda_shim/host/userfault.h"

namespace tierd::shim {

namespace {

constexpr int kAnyFixed = MAP_FIXED | MAP_FIXED_NOREPLACE;

bool is_writable(const MapCall& call) {
    return (call.prot & PROT_WRITE) != 0;
}
bool is_shared(const MapCall& call) {
    return (call.flags & MAP_TYPE) == MAP_SHARED;
}

// Looks at the numbers alone: this is all that other mappings cost.
bool may_be_weights(const MapCall& call) {
    constexpr int kKernelsOwn =
        MAP_ANONYMOUS | MAP_LOCKED | MAP_HUGETLB | MAP_GROWSDOWN | MAP_32BIT | MAP_SYNC;
    int type = call.flags & MAP_TYPE;
    if (call.fd < 0 || (call.flags & kKernelsOwn) != 0 || call.length_bytes == 0) return false;
    if (type != MAP_SHARED && type != MAP_PRIVATE) return false;
    if ((call.prot & PROT_READ) == 0 || (call.prot & ~(PROT_READ | PROT_WRITE)) != 0) return false;
    if (is_shared(call) && is_writable(call)) return false;
    if ((call.flags & kAnyFixed) != 0 && call.address % kPageBytes != 0) return false;
    return call.offset_bytes % kPageBytes == 0 && !state().all_locked;
}

bool is_open_for_this(const MapCall& call) {
    long flags = sys::fcntl(call.fd, F_GETFL, 0);
    if (sys::failed(flags) || (flags & O_PATH) != 0) return false;
    long access = flags & O_ACCMODE;
    return access == O_RDONLY || (access == O_RDWR && !is_shared(call));
}

bool is_weight_file(const MapCall& call, struct stat& st) {
    if (sys::fstat(call.fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size <= 0) return false;
    uint64_t size_bytes = static_cast<uint64_t>(st.st_size);
    uint64_t mappable = round_up(size_bytes, kPageBytes);
    if (size_bytes < state().config.min_bytes || call.offset_bytes > mappable ||
        call.length_bytes > mappable - call.offset_bytes || !is_open_for_this(call))
        return false;
    if (has_weight_header(call.fd, size_bytes)) return true;
    if (state().config.match[0] == '\0') return false;
    char path[kMaxPath];
    return name_of(call.fd, path, sizeof path) && path_matches(path, state().config.match);
}

// Asks tierd for the file's arena. The request lock is held. Returns a pinned row, or kNoAttachment.
uint32_t attach(const MapCall& call, const struct stat& st) {
    State& shim = state();
    FileIdentity identity = FileIdentity::of(st);
    uint32_t index;
    {
        Guard table(shim.table_lock);
        index = shim.attachments.find(identity);
        if (index != kNoAttachment) return index;
        index = shim.attachments.take();
        if (index == kNoAttachment) return index;
    }
    Attachment& row = shim.attachments[index];
    name_of(call.fd, row.path, sizeof row.path);
    row.identity = identity;
    row.weights = OwnedFd::copy_of(call.fd);
    wire::Reply reply{};
    int arena = -1;
    long status = row.weights.fd < 0
                      ? -EMFILE
                      : ask_attach(call.fd, row.path, is_writable(call), is_shared(call), reply, &arena);
    if (status == 0 && reply.size_bytes == static_cast<uint64_t>(st.st_size)) {
        row.number = reply.file;
        row.page_bytes = reply.page_bytes;
        row.arena_bytes = reply.arena_bytes;
        row.arena = OwnedFd::own(arena);
        log_info() << "served by tierd: " << row.path;
        return index;
    }
    if (arena >= 0) sys::close(arena);
    log_info() << "not served by tierd: " << row.path << ": error " << -status;
    Guard table(shim.table_lock);
    shim.attachments.unpin(index);
    return kNoAttachment;
}

// Where an arena's mapping goes. A hugetlb arena is mapped in whole huge pages, and the engine gets the inner
// part.
struct Place {
    uint64_t begin;  // the engine's
    uint64_t end;
    uint64_t outer_begin;  // the mapping's
    uint64_t outer_end;
    uint64_t outer_offset_bytes;
};

// Finds room at an address that is congruent to the offset modulo 2 MiB, so that huge pages can be mapped
// whole.
bool find_place(const MapCall& call, bool huge, Place& place) {
    uint64_t length = round_up(call.length_bytes, kPageBytes);
    if ((call.flags & kAnyFixed) != 0) {
        place = {call.address, call.address + length, call.address, call.address + length, call.offset_bytes};
        return !huge;
    }
    uint64_t lead = call.offset_bytes % kHugePageBytes;
    uint64_t room = round_up(lead + length, kHugePageBytes) + kHugePageBytes;
    long got = sys::mmap(0, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (sys::failed(got)) return false;
    uint64_t reserved = static_cast<uint64_t>(got);
    uint64_t aligned = round_up(reserved, kHugePageBytes);
    place.begin = aligned + lead;
    place.end = place.begin + length;
    place.outer_begin = huge ? aligned : place.begin;
    place.outer_end = huge ? round_up(place.end, kHugePageBytes) : place.end;
    place.outer_offset_bytes = call.offset_bytes - (place.begin - place.outer_begin);
    if (place.outer_begin > reserved) sys::munmap(reserved, place.outer_begin - reserved);
    if (reserved + room > place.outer_end) sys::munmap(place.outer_end, reserved + room - place.outer_end);
    return true;
}

// Maps the arena and registers it. Touches wait from here on; no other code knows the address yet.
long map_arena(const MapCall& call, const Attachment& file, const Place& place) {
    const Session& session = state().session;
    uint64_t length = place.outer_end - place.outer_begin;
    bool no_replace = (call.flags & MAP_FIXED_NOREPLACE) != 0;
    int flags = MAP_PRIVATE | MAP_NORESERVE | (no_replace ? MAP_FIXED_NOREPLACE : MAP_FIXED);
    long got =
        sys::mmap(place.outer_begin, length, call.prot, flags, file.arena.fd, place.outer_offset_bytes);
    if (sys::failed(got)) return got;
    long result = sys::madvise(place.outer_begin, length, MADV_DONTFORK);
    if (result == 0)
        result = uffd_register(session.uffd.fd, place.outer_begin, place.outer_end, is_writable(call));
    return result;
}

// False when the session ended in the meantime or the table is full.
bool remember(const MapCall& call, uint32_t file, const Place& place) {
    State& shim = state();
    Guard table(shim.table_lock);
    if (shim.session.now() != SessionStatus::live || !shim.regions.has_room()) return false;
    Region region{.begin = place.begin,
                  .end = place.end,
                  .offset_bytes = call.offset_bytes,
                  .file = file,
                  .prot = call.prot,
                  .kind = RegionKind::arena,
                  .huge = shim.attachments[file].page_bytes == kHugePageBytes,
                  .shared = is_shared(call),
                  .writable = is_writable(call),
                  .not_forked = false};
    shim.regions.insert(region);
    region.kind = RegionKind::dead;
    if (place.outer_begin < place.begin) {
        region.begin = place.outer_begin;
        region.end = place.begin;
        region.offset_bytes = place.outer_offset_bytes;
        shim.regions.insert(region);
    }
    if (place.end < place.outer_end) {
        region.begin = place.end;
        region.end = place.outer_end;
        region.offset_bytes = place.outer_offset_bytes + (place.end - place.outer_begin);
        shim.regions.insert(region);
    }
    return true;
}

// Takes back what map_arena() and remember() did. With a fixed address the kernel's mapping must come at
// once, before another thread takes the room; then the call is carried out. Returns true in that case.
bool undo(const MapCall& call, const Place& place, long* result) {
    State& shim = state();
    Guard table(shim.table_lock);
    shim.regions.cut(place.outer_begin, place.outer_end);
    if ((call.flags & kAnyFixed) == 0) {
        sys::munmap(place.outer_begin, place.outer_end - place.outer_begin);
        return false;
    }
    // Not populated here: the table lock is held, and reading a whole file would keep the watchdog waiting.
    int flags = (call.flags & ~(MAP_FIXED_NOREPLACE | MAP_POPULATE)) | MAP_FIXED;
    *result = sys::mmap(call.address, call.length_bytes, call.prot, flags, call.fd, call.offset_bytes);
    return true;
}

// The request lock is held and `file` is pinned.
bool place_on_arena(const MapCall& call, uint32_t file, long* result) {
    Session& session = state().session;
    const Attachment& row = state().attachments[file];
    bool huge = row.page_bytes == kHugePageBytes;
    if (is_writable(call) && (huge || !session.can_protect || !state().pagemap.still_ours())) return false;
    if (!row.arena.still_ours() || !is_userfaultfd(session.uffd.fd)) return false;
    Place place;
    if (!find_place(call, huge, place)) return false;
    uint32_t commands = __atomic_load_n(&session.commands_executed, __ATOMIC_ACQUIRE);
    long mapped = map_arena(call, row, place);
    if (mapped == -EEXIST) return false;
    if (mapped != 0 || !remember(call, file, place)) return undo(call, place, result);
    uint64_t length = place.outer_end - place.outer_begin;
    long status = ask_map(row.number, place.outer_begin, place.outer_offset_bytes, length);
    // An order to fall back that came in between may or may not have been meant for this region too.
    if (status == 0 && commands != __atomic_load_n(&session.commands_executed, __ATOMIC_ACQUIRE)) {
        tell_unmap(place.outer_begin, length);
        status = -EAGAIN;
    }
    if (status != 0) {
        log_info() << "not placed: " << row.path << ": error " << -status;
        return undo(call, place, result);
    }
    if ((call.flags & MAP_POPULATE) != 0)
        tell_advice(place.begin, place.end - place.begin, wire::Advice::will_need);
    log_debug() << "placed " << place.end - place.begin << " bytes of " << row.path << " at offset "
                << call.offset_bytes;
    *result = static_cast<long>(place.begin);
    return true;
}

}  // namespace

bool map_weights(const MapCall& call, long* result) {
    State& shim = state();
    struct stat st{};
    if (!may_be_weights(call) || !shim.owns_address_space() || !is_weight_file(call, st)) return false;
    Guard request(shim.request_lock);
    if (!ensure_session()) return false;
    uint32_t file = attach(call, st);
    if (file == kNoAttachment) return false;
    bool placed = place_on_arena(call, file, result);
    Guard table(shim.table_lock);
    shim.attachments.unpin(file);
    return placed;
}

}  // namespace tierd::shim
