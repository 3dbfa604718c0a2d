// config.h - the configuration of the CUDA half: TIERD_CUDA, TIERD_CUDA_MIN_BYTES, TIERD_CUDA_CHUNK_BYTES,
// TIERD_CUDA_MEMORY_INFO and TIERD_GPU_LIMIT of the environment.
#pragma once

#include <stdint.h>

#include "cuda_shim/cuda/reserved_range.h"

namespace tierd::shim::cuda {

enum class Mode : uint8_t { off, elastic, uvm };
enum class MemoryInfo : uint8_t {
    gpu,    // as if the process had the GPU for itself
    lease,  // what tierd lets it have now
    real,   // the driver's own figures
};

struct CudaConfig {
    Mode mode = Mode::off;
    MemoryInfo memory_info = MemoryInfo::gpu;
    uint64_t min_bytes = 1u << 20;       // smaller allocations are the driver's
    uint64_t chunk_bytes = kChunkBytes;  // a power of two
    uint64_t limit_bytes = 0;            // of the GPU's memory, with and without tierd; 0: no limit
};

}  // namespace tierd::shim::cuda
