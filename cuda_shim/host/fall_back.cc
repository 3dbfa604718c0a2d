#include "cuda_shim/host/fall_back.h"

#include "cuda_shim/host/private_pages.h"
#include "cuda_shim/host/shim_state.h"
#include "cuda_shim/host/userfault.h"

namespace tierd::shim {

long map_file_over(const Region& region, uint64_t begin, uint64_t end) {
    int fd = state().attachments.weight_fd(region.file);
    if (fd < 0) return fd;
    int flags = MAP_FIXED | MAP_NORESERVE | (region.shared ? MAP_SHARED : MAP_PRIVATE);
    long got =
        sys::mmap(begin, end - begin, region.prot, flags, fd, region.offset_bytes + (begin - region.begin));
    if (sys::failed(got)) return got;
    if (region.not_forked) sys::madvise(begin, end - begin, MADV_DONTFORK);
    return 0;
}

static void wake(const Region& region) {
    uffd_wake(state().session.uffd.fd, region.begin, region.end);
}

// Whole huge pages are replaced at once, since a hugetlb mapping can't be cut elsewhere; what was dead in
// them goes. `index`: a hugetlb region. Returns 0 or a negative errno; afterwards no region of the span is
// left.
static long replace_huge(size_t index) {
    RegionTable& regions = state().regions;
    Region any = regions[index];
    uint64_t begin = round_down(any.begin, kHugePageBytes);
    uint64_t end = round_up(any.end, kHugePageBytes);
    if (!regions.split(begin) || !regions.split(end)) return -ENOMEM;
    any.offset_bytes -= any.begin - begin;
    any.begin = begin;
    long mapped = map_file_over(any, begin, end);
    if (mapped != 0) return mapped;
    uffd_wake(state().session.uffd.fd, begin, end);
    size_t first = regions.first_behind(begin);
    size_t last = regions.first_behind(end - 1);
    for (size_t i = last + 1; i-- > first;) {
        if (regions[i].kind == RegionKind::dead)
            sys::munmap(regions[i].begin, regions[i].end - regions[i].begin);
        regions.erase(i);
    }
    return 0;
}

static long replace(size_t index) {
    RegionTable& regions = state().regions;
    if (regions[index].huge) return replace_huge(index);
    Region region = regions[index];
    if (region.writable) {
        regions.erase(index);
        return replace_writable(region);
    }
    long mapped = map_file_over(region, region.begin, region.end);
    if (mapped != 0) return mapped;
    regions.erase(index);
    wake(region);
    return 0;
}

long fall_back_range(uint64_t begin, uint64_t end) {
    RegionTable& regions = state().regions;
    if (!regions.split(begin) || !regions.split(end)) return -ENOMEM;
    long first_error = 0;
    // From the back: what is taken out of the table's end moves nothing. Replacing a region may leave others
    // in its place or, for huge pages, take its neighbours along, so the address decides where to go
    // on.
    uint64_t upper = end;
    while (upper > begin) {
        size_t index = regions.first_behind(upper - 1);
        if (index == regions.count() || regions[index].begin >= upper) {
            if (index == 0) break;
            index--;
        }
        Region region = regions[index];
        if (region.end <= begin) break;
        upper = region.begin;
        if (region.kind != RegionKind::arena) continue;
        long result = replace(index);
        if (first_error == 0) first_error = result;
    }
    return first_error;
}

long fall_back_file(uint64_t number, uint64_t offset_bytes, uint64_t length_bytes) {
    State& shim = state();
    uint64_t end_offset = length_bytes > UINT64_MAX - offset_bytes ? UINT64_MAX : offset_bytes + length_bytes;
    long first_error = 0;
    for (size_t i = shim.regions.count(); i-- > 0;) {
        if (i >= shim.regions.count()) continue;
        Region region = shim.regions[i];
        if (region.kind != RegionKind::arena || shim.attachments[region.file].number != number) continue;
        uint64_t low = offset_bytes > region.offset_bytes ? offset_bytes : region.offset_bytes;
        uint64_t region_end_offset = region.offset_bytes + (region.end - region.begin);
        uint64_t high = end_offset < region_end_offset ? end_offset : region_end_offset;
        if (low >= high) continue;
        uint64_t begin = region.begin + (low - region.offset_bytes);
        long result =
            fall_back_range(round_down(begin, kPageBytes), round_up(begin + (high - low), kPageBytes));
        if (first_error == 0) first_error = result;
    }
    return first_error;
}

long fall_back_everything() {
    RegionTable& regions = state().regions;
    if (regions.count() == 0) return 0;
    return fall_back_range(regions[0].begin, regions[regions.count() - 1].end);
}

// An arena without tierd would read as zeros: better a fault.
static void make_untouchable(const Region& region) {
    constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
    log_info() << "a range of weights of " << state().attachments[region.file].path
               << " is lost: the file can't be mapped";
    long got = sys::mmap(region.begin, region.end - region.begin, PROT_NONE, kFlags, -1, 0);
    if (sys::failed(got)) sys::munmap(region.begin, region.end - region.begin);
}

void close_what_is_left() {
    RegionTable& regions = state().regions;
    for (size_t i = regions.count(); i-- > 0;) {
        if (regions[i].kind == RegionKind::private_pages) continue;
        make_untouchable(regions[i]);
        regions.erase(i);
    }
}

void fall_back_in_child() {
    RegionTable& regions = state().regions;
    for (size_t i = regions.count(); i-- > 0;) {
        Region region = regions[i];
        if (region.kind == RegionKind::private_pages) continue;
        regions.erase(i);
        if (region.kind == RegionKind::dead || region.not_forked) continue;
        long result = region.writable ? replace_writable_in_child(region)
                                      : map_file_over(region, region.begin, region.end);
        if (result != 0) make_untouchable(region);
    }
}

}  // namespace tierd::shim
