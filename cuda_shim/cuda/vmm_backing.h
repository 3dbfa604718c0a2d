// vmm_backing.h - chunks of memory that is created, mapped and released one by one (CUDA's virtual memory management).
//
// Owns:      the verifier and the store of images.
// Invariant: a chunk's memory is released only when its image was proved equal or made so.
// Callers:   as in chunk_backing.h.
// Fails:     without a hash kernel every chunk is spilled before it is evicted.
#pragma once

#include "cuda_shim/cuda/chunk_backing.h"
#include "cuda_shim/cuda/chunk_store.h"
#include "cuda_shim/cuda/use_history.h"
#include "cuda_shim/cuda/verifier.h"

namespace tierd::shim::cuda {

class VmmBacking final : public ChunkBacking {
  public:
    constexpr VmmBacking(ReservedRange& range, FillStreams& streams, ChunkStore& store, UseHistory& history,
                         GpuCounters& counters)
        : range_(range),
          streams_(streams),
          store_(store),
          history_(history),
          counters_(counters),
          verifier_(range, streams, counters) {}

    bool reserve(CUdevice device, uint64_t total_bytes, uint64_t chunk_bytes) override;
    bool prepare() override;
    CUresult create(uint32_t chunk) override;
    CUresult map(uint32_t chunk) override;
    CUresult fill(uint32_t chunk, ChunkEvent* event) override;
    uint32_t evict(const uint32_t* victims, uint32_t count) override;
    void unmap(uint32_t chunk) override;
    void discard_image(uint32_t chunk) override { store_.free_copy(chunk); }
    CUresult open_to(CUdevice device) override;
    void end_context() override {}
    void abandon() override;
    uint64_t limit_bytes() const override { return total_bytes_; }
    bool is_reserved() const override { return false; }

  private:
    bool spill(const uint32_t* victims, uint32_t count, const bool* equal, bool* spilled);

    ReservedRange& range_;
    FillStreams& streams_;
    ChunkStore& store_;
    UseHistory& history_;
    GpuCounters& counters_;
    Verifier verifier_;
    CUdevice device_ = 0;
    uint64_t total_bytes_ = 0;
    CUmemAllocationProp kind_ = {};
};

}  // namespace tierd::shim::cuda
