// reserved_range.h - which chunks of a GPU's address range are allocated, what they hold, and where that can be had
// again.
//
// The reserved range is one range of device addresses that nothing else uses, cut into chunks of 2 MiB
// (tests: less). An allocation is a row of
// chunks. A chunk has an image on the host's side: a saved copy, or nothing, under slices of weight files. The GPU's
// memory is filled from the image, and may be dropped while the two are the same.
//
// Owns:      the tables, in memory of its own. Not the GPU's memory, not the saved copies, not the files.
// Invariant: a chunk belongs to at most one allocation; the slices of a chunk do not overlap and lie inside it; a chunk
//            changes its state only as next_state() says; the counts are those of the table.
// Callers:   any thread, with the GPU's lock held.
// Fails:     kNone or false when a table is full; it is then unchanged.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace tierd::shim::cuda {

inline constexpr uint64_t kChunkBytes = 2u << 20;  // unless TIERD_CUDA_CHUNK_BYTES says otherwise
inline constexpr uint32_t kNone = UINT32_MAX;

enum class ChunkState : uint8_t {
    free,    // of no allocation
    absent,  // allocated; the image is all there is
    clean,   // in the GPU's memory, and equal to the image when it was last looked at
    dirty,   // in the GPU's memory, which alone has its bytes
};

enum class ChunkEvent : uint8_t {
    allocate,
    fill,     // the image was copied to the GPU and its hash taken
    map,      // GPU memory without a hash: the bytes are the GPU's from now on
    evict,    // the image was proved or made equal, and the memory returned
    release,  // the engine freed the allocation
};

inline constexpr ChunkState kRefuse = static_cast<ChunkState>(0xff);

// The state that follows; kRefuse for what must not happen.
constexpr ChunkState next_state(ChunkState from, ChunkEvent event) {
    constexpr ChunkState F = ChunkState::free, A = ChunkState::absent, C = ChunkState::clean,
                         D = ChunkState::dirty, X = kRefuse;
    // clang-format off
    constexpr ChunkState kNext[4][5] = {
        //            allocate fill map  evict release
        /* free   */ { A,      X,   X,    X,   X },
        /* absent */ { X,      C,   D,    X,   F },
        /* clean  */ { X,      X,   X,    A,   F },
        /* dirty  */ { X,      X,   X,    A,   F },
    };
    // clang-format on
    return kNext[static_cast<int>(from)][static_cast<int>(event)];
}
static_assert(next_state(ChunkState::free, ChunkEvent::fill) == kRefuse,
              "memory comes only to what is allocated");
static_assert(next_state(ChunkState::absent, ChunkEvent::evict) == kRefuse, "nothing is evicted twice");

// `length` bytes at `begin` of the chunk are those at `offset_bytes` of the file.
struct FileSlice {
    uint64_t offset_bytes = 0;
    uint32_t begin = 0;
    uint32_t length = 0;
    uint32_t file = 0;
    uint32_t next = kNone;  // of the same chunk, or of the free rows
};

struct Chunk {
    uint64_t memory = 0;      // the driver's handle; 0: none
    uint64_t saved = 0;       // address of the saved copy; 0: what has no piece is undefined
    uint32_t slices = kNone;  // the first of them
    uint32_t owner = kNone;   // its allocation
    ChunkState state = ChunkState::free;

    bool resident() const { return state == ChunkState::clean || state == ChunkState::dirty; }
    bool has_image() const { return saved != 0 || slices != kNone; }
};

struct Allocation {
    uint64_t bytes = 0;    // as the engine asked; 0: the row is free
    uint64_t used_at = 0;  // number of the last call that could reach it
    uint64_t period = 0;   // calls between the last two uses; 0: used once or never
    uint64_t fence =
        0;  // of the last use, and of the last that found another stream's under way; see in_flight.h
    uint64_t shared = 0;
    uint32_t first = 0;  // chunk
    uint32_t chunks = 0;
    uint32_t absent = 0;    // chunks of it that are not in the GPU's memory
    uint32_t next = kNone;  // who was used after it last time; see ahead.h
    bool ahead = false;     // brought before anybody asked for it, and not used since
    bool pinned = false;    // never dropped again
};

class ReservedRange {
  public:
    static constexpr uint32_t kMaxAllocations = 65536;
    static constexpr uint32_t kMaxSlices = 1u << 22;

    // Takes the tables' memory for a window of `chunks` at `base`. False when there is none. The size of a chunk is a
    // power
    // of two.
    bool prepare(uint64_t base, uint32_t chunks, uint64_t chunk_bytes = kChunkBytes);
    void discard();  // gives it back

    uint64_t base() const { return base_; }
    uint64_t length_bytes() const { return bytes_of(chunk_count_); }
    bool holds(uint64_t address) const { return address - base_ < length_bytes(); }
    uint32_t chunk_at(uint64_t address) const {
        return static_cast<uint32_t>((address - base_) >> chunk_shift_);
    }
    uint64_t address_of(uint32_t chunk) const { return base_ + (uint64_t{chunk} << chunk_shift_); }
    uint64_t chunk_bytes() const { return uint64_t{1} << chunk_shift_; }
    uint32_t chunk_count() const { return chunk_count_; }
    uint64_t bytes_of(uint64_t chunks) const { return chunks << chunk_shift_; }
    uint64_t chunks_for(uint64_t bytes) const {
        return (bytes >> chunk_shift_) + ((bytes & (chunk_bytes() - 1)) != 0 ? 1 : 0);
    }

    Chunk& chunk(uint32_t index) { return chunks_[index]; }
    const Chunk& chunk(uint32_t index) const { return chunks_[index]; }
    Allocation& allocation(uint32_t index) { return allocations_[index]; }
    const Allocation& allocation(uint32_t index) const { return allocations_[index]; }
    const FileSlice& slice(uint32_t index) const { return slices_[index]; }
    uint32_t allocation_rows() const { return allocation_rows_; }  // rows behind it were never used

    // Room for `bytes`, all absent. kNone: no room in the reserved range or the table.
    uint32_t allocate(uint64_t bytes);
    // The allocation's chunks become free. Their memory and saved copies are the caller's to return, before.
    void release(uint32_t allocation);
    // The allocation that an address lies in; kNone for what is none's, the rest of its last chunk included.
    uint32_t find(uint64_t address) const;

    void change(uint32_t chunk, ChunkEvent event);

    // Bytes [begin, begin + length) of an absent chunk come from the file from now on; what was recorded of them is
    // forgotten.
    bool record(uint32_t chunk, uint32_t begin, uint32_t length, uint32_t file, uint64_t offset_bytes);
    void forget_slices(uint32_t chunk);
    // True when every byte of the chunk that its allocation has lies in a slice.
    bool covered(uint32_t chunk) const;

    uint32_t allocated_chunks() const { return allocated_; }
    uint32_t absent_chunks() const { return absent_; }
    uint32_t resident_chunks() const { return allocated_ - absent_; }

  private:
    uint32_t find_room(uint32_t count) const;
    uint32_t take_row();
    uint32_t take_slice();
    void give_slice(uint32_t index);
    void cut_slices(uint32_t chunk, uint32_t begin, uint32_t end);

    uint64_t base_ = 0;
    uint32_t chunk_count_ = 0;
    uint32_t chunk_shift_ = 21;
    Chunk* chunks_ = nullptr;
    Allocation* allocations_ = nullptr;
    FileSlice* slices_ = nullptr;
    uint32_t allocation_rows_ = 0;
    uint32_t slice_rows_ = 0;  // rows behind it were never used
    uint32_t slices_used_ = 0;
    uint32_t free_slice_ = kNone;
    uint32_t allocated_ = 0;
    uint32_t absent_ = 0;
};

}  // namespace tierd::shim::cuda
