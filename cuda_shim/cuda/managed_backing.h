// managed_backing.h - chunks of managed memory (TIERD_CUDA=uvm): the driver moves them, and the shim decides when.
//
// The range is one managed allocation, never larger than what was free on the GPU when it was made. A chunk's file
// slices
// are written into it on the host, once; then it is prefetched to the GPU, and evicted by a prefetch to the host. So
// its
// bytes are always the driver's to keep: there is no hash and no pinned copy. A chunk of weights alone is advised
// read-mostly, so that its copy on the host stays good and its eviction needs no transfer.
//
// Owns:      the managed allocation.
// Invariant: the allocation is smaller than what the GPU had free. A resident chunk was prefetched, and launches wait
//            for
//            that.
// Callers:   as in chunk_backing.h.
// Fails:     reserve(): where the driver lacks concurrent access or CUDA 12.2's functions, with a line in the log.
#pragma once

#include "cuda_shim/cuda/chunk_backing.h"
#include "cuda_shim/cuda/chunk_store.h"
#include "cuda_shim/cuda/gate.h"

namespace tierd::shim::cuda {

class ManagedBacking final : public ChunkBacking {
  public:
    constexpr ManagedBacking(ReservedRange& range, FillStreams& streams, ChunkStore& store, Gate& gate,
                             GpuCounters& counters)
        : range_(range), streams_(streams), store_(store), gate_(gate), counters_(counters) {}

    bool reserve(CUdevice device, uint64_t total_bytes, uint64_t chunk_bytes) override;
    bool prepare() override { return store_.prepare(); }
    CUresult create(uint32_t) override { return CUDA_SUCCESS; }  // it is there already
    CUresult map(uint32_t chunk) override;
    CUresult fill(uint32_t chunk, ChunkEvent* event) override;
    uint32_t evict(const uint32_t* victims, uint32_t count) override;
    void unmap(uint32_t chunk) override;
    void discard_image(uint32_t) override {}
    CUresult open_to(CUdevice) override { return CUDA_SUCCESS; }
    void end_context() override;
    void abandon() override { base_ = 0; }
    uint64_t limit_bytes() const override { return range_.length_bytes(); }
    bool is_reserved() const override { return true; }

  private:
    CUresult write_slices(uint32_t chunk);

    ReservedRange& range_;
    FillStreams& streams_;
    ChunkStore& store_;
    Gate& gate_;
    GpuCounters& counters_;
    CUmemLocation device_ = {};
    CUdeviceptr base_ = 0;  // of the allocation; 0: it is freed
};

}  // namespace tierd::shim::cuda
