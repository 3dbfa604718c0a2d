// chunk_store.h - the images of chunks on the host: slices of weight files, and copies in pinned memory.
//
// Owns:      the staging buffers and the pinned copies. They end with the context.
// Invariant: a chunk's pinned copy is good when the copy stream has done what it was given.
// Callers:   with the GPU's lock held and its context current.
// Fails:     with the driver's own error; CUDA_ERROR_FILE_NOT_FOUND for a file that has changed.
#pragma once

#include "cuda_shim/cuda/counters.h"
#include "cuda_shim/cuda/fill_streams.h"
#include "cuda_shim/cuda/reserved_range.h"
#include "cuda_shim/cuda/source.h"

namespace tierd::shim::cuda {

class ChunkStore {
  public:
    constexpr ChunkStore(ReservedRange& range, const FillStreams& streams, const Sources& sources,
                         GpuCounters& counters)
        : range_(range), streams_(streams), sources_(sources), counters_(counters) {}

    bool prepare();

    // Starts the copies of a chunk's image to the GPU. The hash stream waits for them.
    CUresult start_fill(uint32_t chunk);
    // The slice's bytes, if they are still those that were loaded.
    CUresult read(const FileSlice& slice, char* into) const;
    // Starts the copy of a chunk to pinned memory. False: it can't be copied.
    bool start_spill(uint32_t chunk);
    // The chunk's pinned copy is of no more use.
    void free_copy(uint32_t chunk);

  private:
    static constexpr uint32_t kStages = 4;
    struct Stage {
        char* buffer = nullptr;
        CUevent copied = nullptr;
    };
    CUresult copy_slices(uint32_t chunk, Stage& stage);
    uint64_t take_copy();

    ReservedRange& range_;
    const FillStreams& streams_;
    const Sources& sources_;
    GpuCounters& counters_;
    Stage stages_[kStages];
    uint32_t next_stage_ = 0;
    uint64_t free_copies_ = 0;  // list of copies that are free, linked through their first word
};

}  // namespace tierd::shim::cuda
