#include "cuda_shim/host/calls.h"

#include "cuda_shim/host/fall_back.h"
#include "cuda_shim/host/private_pages.h"
#include "cuda_shim/host/shim_state.h"
#include "cuda_shim/host/userfault.h"

namespace tierd::shim {

namespace {

// A part of a call's range that lies in one region, or in none.
struct Segment {
    uint64_t begin;
    uint64_t end;
    bool ours;
    Region region;  // where `ours`
    uint64_t length_bytes() const { return end - begin; }
};

// The part of [begin, end) that begins at `begin`. The table lock is held.
Segment segment_at(uint64_t begin, uint64_t end) {
    RegionTable& regions = state().regions;
    size_t index = regions.first_behind(begin);
    if (index == regions.count() || regions[index].begin >= end) return {begin, end, false, {}};
    Region region = regions[index];
    if (region.begin > begin) return {begin, region.begin, false, {}};
    return {begin, region.end < end ? region.end : end, true, region};
}

// Carries a call out part by part; the request lock is held. Answers with the first error, like the kernel
// after having done what it could.
template <class Carry>
long for_each_segment(uint64_t begin, uint64_t end, Carry carry) {
    long first_error = 0;
    while (begin < end) {
        Segment segment;
        {
            Guard table(state().table_lock);
            segment = segment_at(begin, end);
        }
        long result = carry(segment);
        if (first_error == 0) first_error = result;
        begin = segment.end;
    }
    return first_error;
}

// Replaces our mapping by the kernel's, since the engine is about to do what we don't serve. tierd is informed first
// and maps no more pages there, which falling back relies on. A thread that touches the range meanwhile faults again.
void give_back(uint64_t begin, uint64_t end) {
    State& shim = state();
    {
        Guard table(shim.table_lock);
        Segment first = segment_at(begin, end);
        if (first.ours && first.region.huge) begin = round_down(begin, kHugePageBytes);
        Segment last = segment_at(end - 1, end);
        if (last.ours && last.region.huge) end = round_up(end, kHugePageBytes);
    }
    tell_unmap(begin, end - begin);
    Guard table(shim.table_lock);
    if (shim.regions.touches(begin, end)) fall_back_range(begin, end);
}

// True when no part of a huge page is used any more.
bool is_dead(uint64_t huge_page) {
    RegionTable& regions = state().regions;
    for (size_t i = regions.first_behind(huge_page);
         i < regions.count() && regions[i].begin < huge_page + kHugePageBytes; i++)
        if (regions[i].kind != RegionKind::dead) return false;
    return true;
}

// Takes a part of a hugetlb region out of use and unmaps those huge pages that are no longer needed:
// [*begin, *end).
long unmap_huge(const Segment& segment, uint64_t* begin, uint64_t* end) {
    RegionTable& regions = state().regions;
    if (!regions.split(segment.begin) || !regions.split(segment.end)) return -ENOMEM;
    regions[regions.first_behind(segment.begin)].kind = RegionKind::dead;
    *begin = round_down(segment.begin, kHugePageBytes);
    if (!is_dead(*begin)) *begin += kHugePageBytes;
    *end = round_up(segment.end, kHugePageBytes);
    if (*end > *begin && !is_dead(*end - kHugePageBytes)) *end -= kHugePageBytes;
    if (*end <= *begin) return 0;
    long result = sys::munmap(*begin, *end - *begin);
    if (result == 0) regions.cut(*begin, *end);
    return result;
}

// Unmaps what is mapped at `begin`, at most up to `end`, and moves `begin` behind it.
long unmap_first(uint64_t& begin, uint64_t end) {
    State& shim = state();
    uint64_t gone = 0;
    uint64_t gone_end = 0;
    {
        Guard table(shim.table_lock);
        Segment segment = segment_at(begin, end);
        begin = segment.end;
        if (!segment.ours) return sys::munmap(segment.begin, segment.length_bytes());
        if (segment.region.kind == RegionKind::dead) return 0;
        if (segment.region.huge) {
            long result = unmap_huge(segment, &gone, &gone_end);
            if (result != 0) return result;
        } else {
            long result = sys::munmap(segment.begin, segment.length_bytes());
            if (result != 0) return result;
            shim.regions.cut(segment.begin, segment.end);
            gone = segment.begin;
            gone_end = segment.end;
        }
        if (segment.region.kind != RegionKind::arena || gone >= gone_end) return 0;
        uffd_wake(shim.session.uffd.fd, gone, gone_end);
    }
    tell_unmap(gone, gone_end - gone);
    return 0;
}

// Remembers what the engine asked for a part of the table. The table lock is held.
template <class Change>
bool change_regions(uint64_t begin, uint64_t end, Change change) {
    RegionTable& regions = state().regions;
    if (!regions.split(begin) || !regions.split(end)) return false;
    for (size_t i = regions.first_behind(begin); i < regions.count() && regions[i].begin < end; i++)
        change(regions[i]);
    return true;
}

long protect_raw(uint64_t begin, uint64_t end, int prot, int key) {
    return key == -1 ? sys::mprotect(begin, end - begin, prot)
                     : sys::call(SYS_pkey_mprotect, begin, end - begin, prot, key);
}

// True when an arena's mapping can have this protection and still be served.
bool can_protect(const Region& region, int prot, int key) {
    if (key != -1 || region.huge) return false;
    if (prot == PROT_NONE || prot == PROT_READ) return true;
    return region.writable && prot == (PROT_READ | PROT_WRITE);
}

// A part with a protection of its own is a mapping of its own to the kernel, and userfaultfd fills one
// mapping at a time: tierd must know it as a region of its own, before it is one.
bool make_own_region(const Segment& segment) {
    uint64_t offset_bytes = segment.region.offset_bytes + (segment.begin - segment.region.begin);
    uint64_t number = state().attachments[segment.region.file].number;
    return ask_map(number, segment.begin, offset_bytes, segment.length_bytes()) == 0;
}

long protect_segment(const Segment& segment, int prot, int key) {
    if (!segment.ours) return protect_raw(segment.begin, segment.end, prot, key);
    if (segment.region.kind == RegionKind::dead) return -ENOMEM;
    bool arena = segment.region.kind == RegionKind::arena;
    if (arena && key == -1 && prot == segment.region.prot) return 0;
    if (arena && (!can_protect(segment.region, prot, key) || !make_own_region(segment))) {
        give_back(segment.begin, segment.end);
        return protect_raw(segment.begin, segment.end, prot, key);
    }
    Guard table(state().table_lock);
    long result = protect_raw(segment.begin, segment.end, prot, key);
    if (result == 0)
        change_regions(segment.begin, segment.end, [prot](Region& region) { region.prot = prot; });
    return result;
}

// What is done with a piece of advice on our regions.
enum class Advised {
    kernels,    // goes to the kernel, which does the right thing on an arena's mapping too
    swallowed,  // of no use to a mapping that tierd serves
    will_need,
    unused,  // MADV_COLD and MADV_PAGEOUT: would throw out what other processes use
    dropped,
    fork,
    unknown,
};

Advised meaning_of(int advice) {
    constexpr int kDontNeedLocked = 24;
    constexpr int kCollapse = 25;
    switch (advice) {
        case MADV_WILLNEED:
            return Advised::will_need;
        case MADV_COLD:
        case MADV_PAGEOUT:
            return Advised::unused;
        case MADV_DONTNEED:
        case kDontNeedLocked:
            return Advised::dropped;
        case MADV_DONTFORK:
        case MADV_DOFORK:
            return Advised::fork;
        case MADV_NORMAL:
        case MADV_RANDOM:
        case MADV_SEQUENTIAL:
        case MADV_MERGEABLE:
        case MADV_UNMERGEABLE:
        case MADV_HUGEPAGE:
        case MADV_NOHUGEPAGE:
        case MADV_DODUMP:
        case MADV_DONTDUMP:
        case kCollapse:
            return Advised::swallowed;
        case MADV_FREE:
        case MADV_REMOVE:
        case MADV_WIPEONFORK:
        case MADV_KEEPONFORK:
        case MADV_POPULATE_READ:
        case MADV_POPULATE_WRITE:
            return Advised::kernels;
        default:
            return Advised::unknown;
    }
}

// The pages go; the next touch finds the file's bytes again, from the arena or, for private pages, from the file.
long drop(const Segment& asked, int advice) {
    if (asked.region.kind == RegionKind::arena && !asked.region.writable)
        tell_advice(asked.begin, asked.length_bytes(), wire::Advice::dont_need);
    Guard table(state().table_lock);
    long first_error = 0;
    for (uint64_t begin = asked.begin; begin < asked.end;) {
        Segment segment = segment_at(begin, asked.end);
        bool own = segment.ours && segment.region.kind == RegionKind::private_pages;
        bool huge = segment.ours && segment.region.huge;
        long result = 0;
        if (own)
            result = drop_private_pages(segment.begin, segment.end);
        else if (!huge)
            result = sys::madvise(segment.begin, segment.length_bytes(), advice);
        if (first_error == 0) first_error = result;
        begin = segment.end;
    }
    return first_error;
}

long set_forked(const Segment& segment, bool not_forked) {
    Guard table(state().table_lock);
    if (segment.region.kind == RegionKind::private_pages)
        sys::madvise(segment.begin, segment.length_bytes(), not_forked ? MADV_DONTFORK : MADV_DOFORK);
    bool changed = change_regions(segment.begin, segment.end,
                                  [not_forked](Region& region) { region.not_forked = not_forked; });
    return changed ? 0 : -EAGAIN;
}

long advise_segment(const Segment& segment, int advice) {
    if (!segment.ours) return sys::madvise(segment.begin, segment.length_bytes(), advice);
    if (segment.region.kind == RegionKind::dead) return -ENOMEM;
    bool arena = segment.region.kind == RegionKind::arena;
    switch (meaning_of(advice)) {
        case Advised::will_need:
            if (arena) tell_advice(segment.begin, segment.length_bytes(), wire::Advice::will_need);
            return 0;
        case Advised::unused:
            if (arena) tell_advice(segment.begin, segment.length_bytes(), wire::Advice::dont_need);
            return 0;
        case Advised::dropped:
            return drop(segment, advice);
        case Advised::fork:
            return set_forked(segment, advice == MADV_DONTFORK);
        case Advised::swallowed:
            return 0;
        default:
            if (arena) give_back(segment.begin, segment.end);
            return sys::madvise(segment.begin, segment.length_bytes(), advice);
    }
}

}  // namespace

bool is_ours(uint64_t begin, uint64_t length_bytes) {
    State& shim = state();
    if (begin % kPageBytes != 0 || length_bytes == 0 || length_bytes > UINT64_MAX - begin - kPageBytes)
        return false;
    uint64_t end = round_up(begin + length_bytes, kPageBytes);
    if (shim.regions.misses(begin, end) || !shim.owns_address_space()) return false;
    Guard table(shim.table_lock);
    return shim.regions.touches(begin, end);
}

long unmap(uint64_t begin, uint64_t length_bytes) {
    State& shim = state();
    Guard request(shim.request_lock);
    uint64_t end = round_up(begin + length_bytes, kPageBytes);
    long result = 0;
    while (begin < end && result == 0) result = unmap_first(begin, end);
    Guard table(shim.table_lock);
    shim.attachments.collect();
    return result;
}

void displace(uint64_t begin, uint64_t length_bytes) {
    State& shim = state();
    Guard request(shim.request_lock);
    uint64_t end = round_up(begin + length_bytes, kPageBytes);
    give_back(begin, end);
    Guard table(shim.table_lock);
    rebuild_private_pages(begin, end);
    shim.regions.cut(begin, end);
    shim.attachments.collect();
}

long remap(uint64_t begin, uint64_t length_bytes, uint64_t new_length_bytes, int flags,
           uint64_t new_address) {
    if (is_ours(begin, length_bytes)) displace(begin, length_bytes);
    if ((flags & MREMAP_FIXED) != 0 && is_ours(new_address, new_length_bytes))
        displace(new_address, new_length_bytes);
    return sys::call(SYS_mremap, begin, length_bytes, new_length_bytes, flags, new_address);
}

long protect(uint64_t begin, uint64_t length_bytes, int prot, int key) {
    Guard request(state().request_lock);
    return for_each_segment(begin, round_up(begin + length_bytes, kPageBytes),
                            [=](const Segment& segment) { return protect_segment(segment, prot, key); });
}

long advise(uint64_t begin, uint64_t length_bytes, int advice) {
    // Without a lock: populating waits for tierd.
    if (meaning_of(advice) == Advised::kernels) return sys::madvise(begin, length_bytes, advice);
    Guard request(state().request_lock);
    return for_each_segment(begin, round_up(begin + length_bytes, kPageBytes),
                            [=](const Segment& segment) { return advise_segment(segment, advice); });
}

long lock_memory(uint64_t begin, uint64_t length_bytes, int flags) {
    Guard request(state().request_lock);
    return for_each_segment(begin, round_up(begin + length_bytes, kPageBytes), [=](const Segment& segment) {
        if (!segment.ours) return sys::call(SYS_mlock2, segment.begin, segment.length_bytes(), flags);
        if (segment.region.kind == RegionKind::arena)
            tell_advice(segment.begin, segment.length_bytes(), wire::Advice::will_need);
        return 0L;
    });
}

long unlock_memory(uint64_t begin, uint64_t length_bytes) {
    Guard request(state().request_lock);
    return for_each_segment(begin, round_up(begin + length_bytes, kPageBytes), [](const Segment& segment) {
        return segment.ours ? 0L : sys::call(SYS_munlock, segment.begin, segment.length_bytes());
    });
}

long lock_all_memory(int flags) {
    constexpr int kFuture = 2;  // MCL_FUTURE
    if ((flags & kFuture) != 0) __atomic_store_n(&state().all_locked, true, __ATOMIC_RELAXED);
    long result = sys::call(SYS_mlockall, flags);
    if (result != 0) __atomic_store_n(&state().all_locked, false, __ATOMIC_RELAXED);
    return result;
}

long unlock_all_memory() {
    __atomic_store_n(&state().all_locked, false, __ATOMIC_RELAXED);
    return sys::call(SYS_munlockall);
}

}  // namespace tierd::shim
