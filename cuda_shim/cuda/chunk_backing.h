// chunk_backing.h - how chunks get GPU memory and lose it: mapped memory of our own (VmmBacking), or
// managed memory that the driver moves (ManagedBacking).
//
// Owns:      the addresses of the reserved range, and the memory under its chunks.
// Invariant: the memory of a resident chunk is on the GPU, or will be when the pending fills have ended.
// Callers:   Gpu and Residency, with the GPU's lock held and its context current. evict(): when nothing runs that could
//            use the victims.
// Fails:     with the driver's own error; then the chunk's state is unchanged.
#pragma once

#include "cuda_shim/cuda/driver_calls.h"
#include "cuda_shim/cuda/reserved_range.h"

namespace tierd::shim::cuda {

class ChunkBacking {
  public:
    static constexpr uint32_t kMaxVictims = 512;  // that are evicted together

    // Reserves the addresses and prepares the range's tables.
    virtual bool reserve(CUdevice device, uint64_t total_bytes, uint64_t chunk_bytes) = 0;
    // What fills and evicts chunks, once the streams are there.
    virtual bool prepare() = 0;

    // Takes memory for an absent chunk. Only this step may be tried again.
    virtual CUresult create(uint32_t chunk) = 0;
    // Makes that memory the chunk's. On failure it is returned.
    virtual CUresult map(uint32_t chunk) = 0;
    // Starts to fill the chunk. `event` is what has happened to it then.
    virtual CUresult fill(uint32_t chunk, ChunkEvent* event) = 0;
    // Evicts the victims, kMaxVictims at most, and returns how many went.
    virtual uint32_t evict(const uint32_t* victims, uint32_t count) = 0;
    // Returns the memory of a resident chunk. Its bytes are lost.
    virtual void unmap(uint32_t chunk) = 0;
    // The allocation of the chunk is about to be freed.
    virtual void discard_image(uint32_t chunk) = 0;

    // Every resident chunk is accessible by `device` too.
    virtual CUresult open_to(CUdevice device) = 0;
    // The context is about to end: returns what has to be returned before.
    virtual void end_context() = 0;
    // The context has ended: returns what was not its own.
    virtual void abandon() = 0;

    // What all elastic allocations can be together.
    virtual uint64_t limit_bytes() const = 0;
    // True: the range has all its memory, whatever other processes take.
    virtual bool is_reserved() const = 0;

  protected:
    ~ChunkBacking() = default;
};

}  // namespace tierd::shim::cuda
