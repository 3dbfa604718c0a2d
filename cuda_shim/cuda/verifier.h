// verifier.h - proves that a chunk was not written to since it was filled: its keyed hash, taken by the GPU, is the
// same.
//
// Owns:      the hash kernel, its key, and the hashes of each chunk. They end with the context.
// Invariant: a chunk counts as equal only when all of it was hashed behind its fill and again now.
// Callers:   with the GPU's lock held and its context current; verify_clean() when nothing runs that could write.
// Fails:     prepare(): false, and then nothing can be proved: every chunk is spilled before it is evicted.
#pragma once

#include "cuda_shim/cuda/counters.h"
#include "cuda_shim/cuda/fill_streams.h"
#include "cuda_shim/cuda/hash.h"
#include "cuda_shim/cuda/reserved_range.h"

namespace tierd::shim::cuda {

class Verifier {
  public:
    constexpr Verifier(const ReservedRange& range, const FillStreams& streams, GpuCounters& counters)
        : range_(range), streams_(streams), counters_(counters) {}

    bool prepare();
    bool is_ready() const { return function_ != nullptr; }

    // Hashes the chunk as it is behind the copies that the hash stream waits for.
    CUresult remember(uint32_t chunk) { return start(chunk, sums_); }
    // Of each victim, whether it is clean and as it was when it was filled. False: the GPU did not answer.
    bool verify_clean(const uint32_t* victims, uint32_t count, bool* equal);

  private:
    CUresult start(uint32_t chunk, CUdeviceptr sums);

    const ReservedRange& range_;
    const FillStreams& streams_;
    GpuCounters& counters_;
    CUfunction function_ = nullptr;
    HashKey key_ = {};
    CUdeviceptr sums_ = 0;    // of each chunk when it was filled, on the GPU
    CUdeviceptr proofs_ = 0;  // of each chunk when it is to be evicted, on the GPU
    Hash* host_sums_ = nullptr;
    Hash* host_proofs_ = nullptr;
};

}  // namespace tierd::shim::cuda
