// counters.h - what the CUDA half did, and how long others waited for it.
//
// Callers:   with the GPU's lock held.
#pragma once

#include <stdint.h>

#include "cuda_shim/host/sys.h"

namespace tierd::shim::cuda {

struct GpuCounters {
    uint64_t chunks_filled = 0;
    uint64_t bytes_from_files = 0;
    uint64_t bytes_from_saved = 0;
    uint64_t chunks_dropped = 0;  // evicted, and equal to their image
    uint64_t chunks_saved = 0;    // evicted, and spilled before
    uint64_t chunks_freed = 0;    // by the engine
    uint64_t bytes_deferred = 0;  // recorded instead of copied
    uint64_t waits = 0;           // for tierd's grant
    uint64_t most_chunks = 0;     // resident at once
    uint64_t chunks_ahead = 0;    // read ahead
    uint64_t chunks_ahead_used = 0;
    // Reclaims by tierd, and the parts of their time: until this process idled or its slice ended, for calls that still
    // ran, for the hashes, for the copies of spilled chunks, and for the driver to take the memory.
    uint64_t reclaims = 0;
    uint64_t patience_ns = 0;
    uint64_t calls_ns = 0;
    uint64_t proof_ns = 0;
    uint64_t save_ns = 0;
    uint64_t return_ns = 0;
};

// Adds the time of its own life.
class Stopwatch {
  public:
    explicit Stopwatch(uint64_t& sum_ns) : sum_ns_(sum_ns), began_ns_(sys::now_ns()) {}
    ~Stopwatch() { sum_ns_ += sys::now_ns() - began_ns_; }
    Stopwatch(const Stopwatch&) = delete;
    Stopwatch& operator=(const Stopwatch&) = delete;

  private:
    uint64_t& sum_ns_;
    const uint64_t began_ns_;
};

}  // namespace tierd::shim::cuda
