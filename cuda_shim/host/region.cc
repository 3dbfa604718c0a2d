#include "cuda_shim/host/region.h"

#include <string.h>

#include "cuda_shim/host/shim_state.h"
#include "cuda_shim/host/sys.h"

namespace tierd::shim {

bool RegionTable::prepare() {
    if (rows_ != nullptr) return true;
    long got = sys::mmap(0, kRows * sizeof(Region), PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (sys::failed(got)) return false;
    rows_ = reinterpret_cast<Region*>(got);
    return true;
}

size_t RegionTable::first_behind(uint64_t address) const {
    size_t low = 0;
    size_t high = count_;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (rows_[middle].end > address)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

bool RegionTable::touches(uint64_t begin, uint64_t end) const {
    size_t index = first_behind(begin);
    return index < count_ && rows_[index].begin < end;
}

bool RegionTable::misses(uint64_t begin, uint64_t end) const {
    return end <= __atomic_load_n(&lowest_, __ATOMIC_ACQUIRE) ||
           begin >= __atomic_load_n(&highest_, __ATOMIC_ACQUIRE);
}

void RegionTable::publish_bounds() {
    __atomic_store_n(&lowest_, count_ == 0 ? UINT64_MAX : rows_[0].begin, __ATOMIC_RELEASE);
    __atomic_store_n(&highest_, count_ == 0 ? 0 : rows_[count_ - 1].end, __ATOMIC_RELEASE);
}

bool RegionTable::insert(const Region& region) {
    if (count_ == kRows) return false;
    size_t index = first_behind(region.begin);
    ::memmove(rows_ + index + 1, rows_ + index, (count_ - index) * sizeof(Region));
    rows_[index] = region;
    count_++;
    state().attachments[region.file].users++;
    publish_bounds();
    return true;
}

bool RegionTable::split(uint64_t address) {
    size_t index = first_behind(address);
    if (index == count_ || rows_[index].begin >= address) return true;
    if (count_ == kRows) return false;
    Region tail = rows_[index];
    tail.offset_bytes += address - tail.begin;
    tail.begin = address;
    rows_[index].end = address;
    return insert(tail);
}

void RegionTable::extend(size_t index, uint64_t end) {
    rows_[index].end = end;
    publish_bounds();
}

void RegionTable::erase(size_t index) {
    state().attachments[rows_[index].file].users--;
    count_--;
    ::memmove(rows_ + index, rows_ + index + 1, (count_ - index) * sizeof(Region));
    publish_bounds();
}

bool RegionTable::cut(uint64_t begin, uint64_t end) {
    if (!split(begin) || !split(end)) return false;
    size_t index = first_behind(begin);
    while (index < count_ && rows_[index].begin < end) erase(index);
    return true;
}

}  // namespace tierd::shim
