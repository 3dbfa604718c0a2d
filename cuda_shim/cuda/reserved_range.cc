#include "cuda_shim/cuda/reserved_range.h"

#include "cuda_shim/host/sys.h"

namespace tierd::shim::cuda {

namespace {

template <class T>
T* take_table(uint64_t rows) {
    long got = sys::mmap(0, rows * sizeof(T), PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return sys::failed(got) ? nullptr : reinterpret_cast<T*>(got);
}

template <class T>
void give_table(T* table, uint64_t rows) {
    if (table != nullptr) sys::munmap(reinterpret_cast<uint64_t>(table), rows * sizeof(T));
}

}  // namespace

bool ReservedRange::prepare(uint64_t base, uint32_t chunks, uint64_t chunk_bytes) {
    base_ = base;
    chunk_shift_ = static_cast<uint32_t>(__builtin_ctzll(chunk_bytes));
    chunk_count_ = chunks;
    chunks_ = take_table<Chunk>(chunks);
    allocations_ = take_table<Allocation>(kMaxAllocations);
    slices_ = take_table<FileSlice>(kMaxSlices);
    if (chunks_ == nullptr || allocations_ == nullptr || slices_ == nullptr) {
        discard();
        return false;
    }
    for (uint32_t i = 0; i < chunks; i++) chunks_[i] = Chunk{};
    return true;
}

void ReservedRange::discard() {
    give_table(chunks_, chunk_count_);
    give_table(allocations_, kMaxAllocations);
    give_table(slices_, kMaxSlices);
    *this = ReservedRange{};
}

// First fit. Allocations are few and large; the search looks at each chunk once.
uint32_t ReservedRange::find_room(uint32_t count) const {
    uint32_t begin = 0;
    while (begin + count <= chunk_count_) {
        uint32_t end = begin;
        while (end < begin + count && chunks_[end].state == ChunkState::free) end++;
        if (end == begin + count) return begin;
        begin = chunks_[end].owner == kNone
                    ? end + 1
                    : allocations_[chunks_[end].owner].first + allocations_[chunks_[end].owner].chunks;
    }
    return kNone;
}

uint32_t ReservedRange::take_row() {
    for (uint32_t i = 0; i < allocation_rows_; i++)
        if (allocations_[i].bytes == 0) return i;
    return allocation_rows_ < kMaxAllocations ? allocation_rows_++ : kNone;
}

uint32_t ReservedRange::allocate(uint64_t bytes) {
    uint64_t chunks = chunks_for(bytes);
    if (bytes == 0 || chunks > chunk_count_) return kNone;
    uint32_t count = static_cast<uint32_t>(chunks);
    uint32_t first = find_room(count);
    if (first == kNone) return kNone;
    uint32_t row = take_row();
    if (row == kNone) return kNone;
    allocations_[row] = Allocation{.bytes = bytes, .first = first, .chunks = count};
    for (uint32_t i = first; i < first + count; i++) {
        chunks_[i].owner = row;
        change(i, ChunkEvent::allocate);
    }
    return row;
}

void ReservedRange::release(uint32_t row) {
    Allocation& allocation = allocations_[row];
    for (uint32_t i = allocation.first; i < allocation.first + allocation.chunks; i++) {
        forget_slices(i);
        change(i, ChunkEvent::release);
        chunks_[i] = Chunk{};
    }
    allocation = Allocation{};
}

uint32_t ReservedRange::find(uint64_t address) const {
    if (!holds(address)) return kNone;
    uint32_t row = chunks_[chunk_at(address)].owner;
    if (row == kNone) return kNone;
    const Allocation& allocation = allocations_[row];
    return address - address_of(allocation.first) < allocation.bytes ? row : kNone;
}

void ReservedRange::change(uint32_t index, ChunkEvent event) {
    Chunk& chunk = chunks_[index];
    ChunkState next = next_state(chunk.state, event);
    if (next == kRefuse)
        __builtin_trap();  // the bookkeeping no longer says what the GPU has: nothing is safe then
    auto is_allocated = [](ChunkState state) { return state != ChunkState::free ? 1u : 0u; };
    auto is_absent = [](ChunkState state) { return state == ChunkState::absent ? 1u : 0u; };
    allocated_ += is_allocated(next) - is_allocated(chunk.state);
    absent_ += is_absent(next) - is_absent(chunk.state);
    allocations_[chunk.owner].absent += is_absent(next) - is_absent(chunk.state);
    chunk.state = next;
}

uint32_t ReservedRange::take_slice() {
    slices_used_++;
    uint32_t index = free_slice_;
    if (index == kNone) return slice_rows_++;
    free_slice_ = slices_[index].next;
    return index;
}

void ReservedRange::give_slice(uint32_t index) {
    slices_used_--;
    slices_[index].next = free_slice_;
    free_slice_ = index;
}

// Takes [begin, end) out of the chunk's slices. Of slices that do not overlap one at most is cut in two, so one free
// row
// is enough.
void ReservedRange::cut_slices(uint32_t index, uint32_t begin, uint32_t end) {
    for (uint32_t* link = &chunks_[index].slices; *link != kNone;) {
        uint32_t row = *link;
        FileSlice& slice = slices_[row];
        uint32_t slice_end = slice.begin + slice.length;
        uint32_t before = slice.begin < begin ? begin - slice.begin : 0;
        uint32_t after = slice_end > end ? slice_end - end : 0;
        if (slice_end <= begin || slice.begin >= end) {
            link = &slice.next;
        } else if (before == 0 && after == 0) {
            *link = slice.next;
            give_slice(row);
        } else {
            FileSlice tail{slice.offset_bytes + (slice.length - after), end, after, slice.file, slice.next};
            if (before == 0) {
                slice = tail;
            } else {
                slice.length = before;
                if (after > 0) {
                    uint32_t second = take_slice();
                    slices_[second] = tail;
                    slice.next = second;
                }
            }
            link = &slice.next;
        }
    }
}

bool ReservedRange::record(uint32_t index, uint32_t begin, uint32_t length, uint32_t file,
                           uint64_t offset_bytes) {
    if (slices_used_ + 2 > kMaxSlices) return false;
    cut_slices(index, begin, begin + length);
    uint32_t row = take_slice();
    slices_[row] = {offset_bytes, begin, length, file, chunks_[index].slices};
    chunks_[index].slices = row;
    return true;
}

void ReservedRange::forget_slices(uint32_t index) {
    Chunk& chunk = chunks_[index];
    while (chunk.slices != kNone) {
        uint32_t row = chunk.slices;
        chunk.slices = slices_[row].next;
        give_slice(row);
    }
}

bool ReservedRange::covered(uint32_t index) const {
    const Chunk& chunk = chunks_[index];
    const Allocation& allocation = allocations_[chunk.owner];
    uint64_t before = bytes_of(index - allocation.first);
    uint64_t wanted = allocation.bytes - before < chunk_bytes() ? allocation.bytes - before : chunk_bytes();
    uint64_t have = 0;
    for (uint32_t row = chunk.slices; row != kNone; row = slices_[row].next) have += slices_[row].length;
    return have >= wanted;
}

}  // namespace tierd::shim::cuda
