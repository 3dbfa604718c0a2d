#include "cuda_shim/host/private_pages.h"

#include <fcntl.h>
#include <string.h>

#include "cuda_shim/host/fall_back.h"
#include "cuda_shim/host/shim_state.h"
#include "cuda_shim/host/userfault.h"

namespace tierd::shim {

namespace {

constexpr uint64_t kChunkBytes = kHugePageBytes;
constexpr size_t kChunkPages = kChunkBytes / kPageBytes;
// Each run becomes a mapping of its own, and the kernel allows a process 65530 of them (vm.max_map_count).
constexpr size_t kMaxRuns = 16;

enum class Page : uint8_t { own, clean, replaced };

// At most kChunkBytes of a region, and what each of its pages is.
struct Chunk {
    Region part;
    size_t count = 0;
    Page pages[kChunkPages];

    uint64_t address(size_t index) const { return part.begin + index * kPageBytes; }
    uint64_t offset(size_t index) const { return part.offset_bytes + index * kPageBytes; }
    // End of the run of equal pages that begins at `index`.
    size_t run_end(size_t index) const {
        size_t end = index + 1;
        while (end < count && pages[end] == pages[index]) end++;
        return end;
    }
    size_t runs(Page kind) const {
        size_t found = 0;
        for (size_t i = 0; i < count; i = run_end(i)) found += pages[i] == kind;
        return found;
    }
};

// The chunk of `region` that begins at `address`.
Chunk chunk_at(const Region& region, uint64_t address) {
    Chunk chunk;
    chunk.part = region;
    chunk.part.begin = address;
    chunk.part.offset_bytes += address - region.begin;
    uint64_t end = round_down(address, kChunkBytes) + kChunkBytes;
    if (end < region.end) chunk.part.end = end;
    chunk.count = (chunk.part.end - address) / kPageBytes;
    return chunk;
}

// The pagemap's entry of a page. `swap_or_marker`: the kernel shows the number of a swap entry only to processes with
// CAP_SYS_ADMIN, and without it a page that was swapped out looks like userfaultfd's marker on an absent one.
enum class Entry : uint8_t { own, not_own, swap_or_marker };

Entry meaning_of(uint64_t entry) {
    constexpr uint64_t kPresent = 1ull << 63;
    constexpr uint64_t kSwapped = 1ull << 62;
    constexpr uint64_t kOfFile = 1ull << 61;
    constexpr uint64_t kSwapEntry = (1ull << 55) - 1;  // its type and offset; never zero
    constexpr uint64_t kSwapType = 0x1f;
    constexpr uint64_t kMarker = 31;  // not swapped at all: userfaultfd's note on an absent page
    if ((entry & kOfFile) != 0) return Entry::not_own;
    if ((entry & kPresent) != 0) return Entry::own;
    if ((entry & kSwapped) == 0) return Entry::not_own;
    if ((entry & kSwapEntry) == 0) return Entry::swap_or_marker;
    return (entry & kSwapType) == kMarker ? Entry::not_own : Entry::own;
}

// Finds for each page whether it is private, from the pagemap of this process. `before`: what was seen before the
// chunk was protected, when there were no markers yet; null: it is not protected now. A page that became the client's
// in between is present: the kernel swaps nothing out that was written some microseconds ago.
long look(Chunk& chunk, int pagemap, const Chunk* before) {
    uint64_t entries[kChunkPages];
    uint64_t bytes = chunk.count * sizeof entries[0];
    long got = sys::pread(pagemap, entries, bytes, chunk.part.begin / kPageBytes * sizeof entries[0]);
    if (got != static_cast<long>(bytes)) return sys::failed(got) ? got : -EIO;
    for (size_t i = 0; i < chunk.count; i++) {
        Entry entry = meaning_of(entries[i]);
        bool own = entry == Entry::own;
        if (entry == Entry::swap_or_marker) own = before == nullptr || before->pages[i] == Page::own;
        chunk.pages[i] = own ? Page::own : Page::clean;
    }
    return 0;
}

// Reads one page of the file, zeros behind its end as in a mapping. False where a mapping would give SIGBUS.
bool read_page(uint32_t file, uint64_t offset_bytes, unsigned char* into) {
    int fd = state().attachments.weight_fd(file);
    uint64_t filled = 0;
    while (fd >= 0 && filled < kPageBytes) {
        long got = sys::pread(fd, into + filled, kPageBytes - filled, offset_bytes + filled);
        if (got < 0 && got != -EINTR) return false;
        if (got == 0) break;
        if (got > 0) filled += static_cast<uint64_t>(got);
    }
    ::memset(into + filled, 0, kPageBytes - filled);
    return filled > 0;
}

// Makes a private copy of a clean page, with the file's bytes. A thread that waits for it continues with the chunk's
// wake-up.
bool complete_page(const Chunk& chunk, size_t index) {
    unsigned char bytes[kPageBytes];
    if (!read_page(chunk.part.file, chunk.offset(index), bytes)) return false;
    // The arena's page, if mapped, has to go first. No thread can have written to it: it is protected.
    sys::madvise(chunk.address(index), kPageBytes, MADV_DONTNEED);
    return uffd_copy(state().session.uffd.fd, chunk.address(index), bytes) == 0;
}

// Puts the file's bytes into the clean pages, by mapping it over each run of them or, where that makes too
// many mappings, by copying.
long replace_clean_pages(Chunk& chunk) {
    bool map = chunk.runs(Page::clean) <= kMaxRuns;
    for (size_t i = 0, end; i < chunk.count; i = end) {
        end = chunk.run_end(i);
        if (chunk.pages[i] != Page::clean) continue;
        bool mapped = map && map_file_over(chunk.part, chunk.address(i), chunk.address(end)) == 0;
        for (size_t page = i; page < end; page++) {
            chunk.pages[page] = mapped ? Page::replaced : Page::own;
            if (mapped || complete_page(chunk, page)) continue;
            long result = map_file_over(chunk.part, chunk.address(page), chunk.address(page + 1));
            if (result != 0) return result;
            chunk.pages[page] = Page::replaced;
        }
    }
    return 0;
}

// Remembers [begin, end) of the chunk as private pages, in one region with those before them.
void remember_own(const Region& part, uint64_t begin, uint64_t end) {
    RegionTable& regions = state().regions;
    Region own = part;
    own.begin = begin;
    own.end = end;
    own.offset_bytes += begin - part.begin;
    own.kind = RegionKind::private_pages;
    size_t index = begin == 0 ? regions.count() : regions.first_behind(begin - 1);
    if (index < regions.count()) {
        Region& before = regions[index];
        bool goes_on = before.kind == RegionKind::private_pages && before.end == begin &&
                       before.file == own.file && before.prot == own.prot && before.shared == own.shared &&
                       before.not_forked == own.not_forked &&
                       before.offset_bytes + (before.end - before.begin) == own.offset_bytes;
        if (goes_on) return regions.extend(index, end);
    }
    if (!regions.insert(own)) log_info() << "the table of regions is full";
}

void keep_own_runs(const Chunk& chunk) {
    int uffd = state().session.uffd.fd;
    for (size_t i = 0, end; i < chunk.count; i = end) {
        end = chunk.run_end(i);
        if (chunk.pages[i] != Page::own) continue;
        uint64_t from = chunk.address(i);
        uint64_t to = chunk.address(end);
        // Where the kernel has no room for one mapping more, the pages must at least become writable again.
        if (uffd >= 0 && uffd_unregister(uffd, from, to) != 0) uffd_unprotect(uffd, from, to);
        if (!chunk.part.not_forked) sys::madvise(from, to - from, MADV_DOFORK);
        remember_own(chunk.part, from, to);
    }
}

long replace_chunk(const Region& region, uint64_t begin, uint64_t* end) {
    Session& session = state().session;
    Chunk chunk = chunk_at(region, begin);
    Chunk before = chunk;
    *end = chunk.part.end;
    long result = look(before, state().pagemap.fd, nullptr);
    if (result != 0) return result;
    uffd_protect(session.uffd.fd, chunk.part.begin, chunk.part.end);
    result = look(chunk, state().pagemap.fd, &before);
    if (result == 0) result = replace_clean_pages(chunk);
    if (result != 0) {
        // Removes all protection: a second attempt must find no markers.
        uffd_unprotect(session.uffd.fd, chunk.part.begin, chunk.part.end);
        return result;
    }
    keep_own_runs(chunk);
    uffd_wake(session.uffd.fd, chunk.part.begin, chunk.part.end);
    return 0;
}

// Builds the chunk anew beside its place, with the kernel's mapping of the file and copies of the client's
// own pages, and moves it there in one step.
long rebuild_chunk(const Chunk& chunk) {
    const Region& part = chunk.part;
    uint64_t length = part.end - part.begin;
    int fd = state().attachments.weight_fd(part.file);
    if (fd < 0) return fd;
    long got =
        sys::mmap(0, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, fd, part.offset_bytes);
    if (sys::failed(got)) return got;
    uint64_t fresh = static_cast<uint64_t>(got);
    if ((part.prot & PROT_READ) == 0) sys::mprotect(part.begin, length, PROT_READ);
    for (size_t i = 0; i < chunk.count; i++) {
        if (chunk.pages[i] != Page::own) continue;
        ::memcpy(reinterpret_cast<void*>(fresh + i * kPageBytes),
                 reinterpret_cast<const void*>(chunk.address(i)), kPageBytes);
    }
    sys::mprotect(fresh, length, part.prot);
    long moved = sys::call(SYS_mremap, fresh, length, length, static_cast<int>(MREMAP_MAYMOVE | MREMAP_FIXED),
                           part.begin);
    if (!sys::failed(moved)) return 0;
    sys::munmap(fresh, length);
    return moved;
}

long replace_chunk_in_child(const Region& region, uint64_t begin, uint64_t* end, int pagemap) {
    Chunk chunk = chunk_at(region, begin);
    *end = chunk.part.end;
    long result = look(chunk, pagemap, nullptr);
    if (result != 0) return result;
    if (chunk.runs(Page::clean) > kMaxRuns) return rebuild_chunk(chunk);
    for (size_t i = 0, next; i < chunk.count && result == 0; i = next) {
        next = chunk.run_end(i);
        if (chunk.pages[i] == Page::clean)
            result = map_file_over(chunk.part, chunk.address(i), chunk.address(next));
        else
            remember_own(chunk.part, chunk.address(i), chunk.address(next));
    }
    return result;
}

}  // namespace

long replace_writable(const Region& region) {
    uint64_t end = region.end;
    for (uint64_t begin = region.begin; begin < region.end; begin = end) {
        long result = replace_chunk(region, begin, &end);
        if (result == 0) continue;
        Region rest = region;
        rest.begin = begin;
        rest.offset_bytes += begin - region.begin;
        state().regions.insert(rest);
        return result;
    }
    return 0;
}

long replace_writable_in_child(const Region& region) {
    long opened = sys::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (sys::failed(opened)) return opened;
    long result = 0;
    uint64_t end = region.end;
    for (uint64_t begin = region.begin; begin < region.end && result == 0; begin = end)
        result = replace_chunk_in_child(region, begin, &end, static_cast<int>(opened));
    sys::close(static_cast<int>(opened));
    return result;
}

long drop_private_pages(uint64_t begin, uint64_t end) {
    RegionTable& regions = state().regions;
    if (!regions.split(begin) || !regions.split(end)) return -ENOMEM;
    long result = 0;
    for (size_t i = regions.first_behind(begin);
         result == 0 && i < regions.count() && regions[i].begin < end;) {
        Region region = regions[i];
        if (region.kind != RegionKind::private_pages) {
            i++;
            continue;
        }
        result = map_file_over(region, region.begin, region.end);
        if (result == 0) regions.erase(i);
    }
    return result;
}

long rebuild_private_pages(uint64_t begin, uint64_t end) {
    RegionTable& regions = state().regions;
    if (!regions.split(begin) || !regions.split(end)) return -ENOMEM;
    for (size_t i = regions.first_behind(begin); i < regions.count() && regions[i].begin < end;) {
        Region region = regions[i];
        if (region.kind != RegionKind::private_pages) {
            i++;
            continue;
        }
        for (uint64_t at = region.begin; at < region.end;) {
            Chunk chunk = chunk_at(region, at);
            for (size_t page = 0; page < chunk.count; page++) chunk.pages[page] = Page::own;
            long result = rebuild_chunk(chunk);
            if (result != 0) return result;
            at = chunk.part.end;
        }
        regions.erase(i);
    }
    return 0;
}

bool may_hold_private_pages(uint64_t begin, uint64_t end) {
    Region region{.begin = round_down(begin, kPageBytes), .end = round_up(end, kPageBytes)};
    int pagemap = state().pagemap.fd;
    for (uint64_t address = region.begin; address < region.end;) {
        Chunk chunk = chunk_at(region, address);
        if (look(chunk, pagemap, nullptr) != 0 || chunk.runs(Page::own) != 0) return true;
        address = chunk.part.end;
    }
    return false;
}

}  // namespace tierd::shim
