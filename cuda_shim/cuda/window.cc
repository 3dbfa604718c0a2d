#include "cuda_shim/cuda/window.h"

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

bool Window::prepare(uint64_t base, uint32_t chunks, uint64_t chunk_bytes) {
    base_ = base;
    chunk_shift_ = static_cast<uint32_t>(__builtin_ctzll(chunk_bytes));
    chunk_count_ = chunks;
    chunks_ = take_table<Chunk>(chunks);
    allocations_ = take_table<Allocation>(kMaxAllocations);
    pieces_ = take_table<Piece>(kMaxPieces);
    if (chunks_ == nullptr || allocations_ == nullptr || pieces_ == nullptr) {
        discard();
        return false;
    }
    for (uint32_t i = 0; i < chunks; i++) chunks_[i] = Chunk{};
    return true;
}

void Window::discard() {
    give_table(chunks_, chunk_count_);
    give_table(allocations_, kMaxAllocations);
    give_table(pieces_, kMaxPieces);
    *this = Window{};
}

// First fit. Allocations are few and large; the search looks at each chunk once.
uint32_t Window::find_room(uint32_t count) const {
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

uint32_t Window::take_row() {
    for (uint32_t i = 0; i < allocation_rows_; i++)
        if (allocations_[i].bytes == 0) return i;
    return allocation_rows_ < kMaxAllocations ? allocation_rows_++ : kNone;
}

uint32_t Window::allocate(uint64_t bytes) {
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

void Window::release(uint32_t row) {
    Allocation& allocation = allocations_[row];
    for (uint32_t i = allocation.first; i < allocation.first + allocation.chunks; i++) {
        forget_pieces(i);
        change(i, ChunkEvent::release);
        chunks_[i] = Chunk{};
    }
    allocation = Allocation{};
}

uint32_t Window::find(uint64_t address) const {
    if (!holds(address)) return kNone;
    uint32_t row = chunks_[chunk_at(address)].owner;
    if (row == kNone) return kNone;
    const Allocation& allocation = allocations_[row];
    return address - address_of(allocation.first) < allocation.bytes ? row : kNone;
}

void Window::change(uint32_t index, ChunkEvent event) {
    Chunk& chunk = chunks_[index];
    ChunkState next = next_state(chunk.state, event);
    if (next == kRefuse)
        __builtin_trap();  // the bookkeeping no longer says what the card has: nothing is safe then
    auto is_allocated = [](ChunkState state) { return state != ChunkState::free ? 1u : 0u; };
    auto is_absent = [](ChunkState state) { return state == ChunkState::absent ? 1u : 0u; };
    allocated_ += is_allocated(next) - is_allocated(chunk.state);
    absent_ += is_absent(next) - is_absent(chunk.state);
    allocations_[chunk.owner].absent += is_absent(next) - is_absent(chunk.state);
    chunk.state = next;
}

uint32_t Window::take_piece() {
    pieces_used_++;
    uint32_t index = free_piece_;
    if (index == kNone) return piece_rows_++;
    free_piece_ = pieces_[index].next;
    return index;
}

void Window::give_piece(uint32_t index) {
    pieces_used_--;
    pieces_[index].next = free_piece_;
    free_piece_ = index;
}

// Takes [begin, end) out of the chunk's pieces. Of pieces that do not overlap one at most is cut in two, so one free row
// is enough.
void Window::cut_pieces(uint32_t index, uint32_t begin, uint32_t end) {
    for (uint32_t* link = &chunks_[index].pieces; *link != kNone;) {
        uint32_t row = *link;
        Piece& piece = pieces_[row];
        uint32_t piece_end = piece.begin + piece.length;
        uint32_t before = piece.begin < begin ? begin - piece.begin : 0;
        uint32_t after = piece_end > end ? piece_end - end : 0;
        if (piece_end <= begin || piece.begin >= end) {
            link = &piece.next;
        } else if (before == 0 && after == 0) {
            *link = piece.next;
            give_piece(row);
        } else {
            Piece tail{piece.offset_bytes + (piece.length - after), end, after, piece.file, piece.next};
            if (before == 0) {
                piece = tail;
            } else {
                piece.length = before;
                if (after > 0) {
                    uint32_t second = take_piece();
                    pieces_[second] = tail;
                    piece.next = second;
                }
            }
            link = &piece.next;
        }
    }
}

bool Window::record(uint32_t index, uint32_t begin, uint32_t length, uint32_t file, uint64_t offset_bytes) {
    if (pieces_used_ + 2 > kMaxPieces) return false;
    cut_pieces(index, begin, begin + length);
    uint32_t row = take_piece();
    pieces_[row] = {offset_bytes, begin, length, file, chunks_[index].pieces};
    chunks_[index].pieces = row;
    return true;
}

void Window::forget_pieces(uint32_t index) {
    Chunk& chunk = chunks_[index];
    while (chunk.pieces != kNone) {
        uint32_t row = chunk.pieces;
        chunk.pieces = pieces_[row].next;
        give_piece(row);
    }
}

bool Window::covered(uint32_t index) const {
    const Chunk& chunk = chunks_[index];
    const Allocation& allocation = allocations_[chunk.owner];
    uint64_t before = bytes_of(index - allocation.first);
    uint64_t wanted = allocation.bytes - before < chunk_bytes() ? allocation.bytes - before : chunk_bytes();
    uint64_t have = 0;
    for (uint32_t row = chunk.pieces; row != kNone; row = pieces_[row].next) have += pieces_[row].length;
    return have >= wanted;
}

}  // namespace tierd::shim::cuda
