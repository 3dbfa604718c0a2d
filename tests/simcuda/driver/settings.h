// settings.h - what the environment says about the simulated GPU. Read once, at cuInit.
#pragma once

#include <cstdint>
#include <string>

#include "lib/base/result.h"

namespace simcuda {

struct Settings {
    uint64_t memory_bytes = 1ull << 30;    // SIMCUDA_MEMORY: the GPU's memory
    bool memory_given = false;             // false: a shared GPU that exists already keeps its own size
    uint64_t context_bytes = 0;            // SIMCUDA_CONTEXT_BYTES: what a context costs, as on a real GPU
    uint64_t granularity_bytes = 2 << 20;  // SIMCUDA_GRANULARITY: of cuMemCreate and cuMemAddressReserve
    std::string gpu;                // SIMCUDA_GPU: the file that processes share; empty: a GPU of one's own
    uint64_t copy_bytes_per_s = 0;  // SIMCUDA_COPY_BYTES_PER_S: the link, each way; 0: as fast as memcpy
    uint64_t launch_ns = 0;         // SIMCUDA_LAUNCH_NS: added before each kernel
    bool virtual_time = false;      // SIMCUDA_TIME=virtual: modelled time is counted, not waited for
    bool abort_on_misuse = true;    // SIMCUDA_MISUSE=error: answer with the documented error instead
    bool poison = false;            // SIMCUDA_POISON=1: fresh device memory holds 0xCB, not zeros
    std::string
        kernels;  // SIMCUDA_KERNELS: shared objects with the kernels of PTX and fat binaries, ':' between
    std::string stats;  // SIMCUDA_STATS: a JSON file of counters, written when the process exits

    // Errors: bad_config, naming the variable and what it may hold.
    static tierd::Result<Settings> from_environment();
};

}  // namespace simcuda
