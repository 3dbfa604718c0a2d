// shim.h - the one struct of the CUDA half, and its configuration. Like the host half, a preloaded library has nowhere to
// pass its state.
//
// Owns:      everything of the CUDA half.
// Invariant: lock order: the GPU's lock (`lock`), then the host half's request lock, then its table lock; the gate's list
//            lock last. The GPU's lock may be held while the driver works and while weights are read: only launches that
//            find something absent, and whoever takes memory away, wait for it. Launches that find everything
//            resident never take it.
// Callers:   any thread. is_enabled() may be called before any constructor.
// Fails:     what goes wrong while the GPU is set up leaves the process without elastic memory, with one line in the log.
#pragma once

#include <stdint.h>

#include "cuda_shim/cuda/gate.h"
#include "cuda_shim/cuda/gpu.h"
#include "cuda_shim/cuda/graphs.h"
#include "cuda_shim/cuda/lease.h"
#include "cuda_shim/cuda/reads.h"
#include "cuda_shim/cuda/source.h"
#include "cuda_shim/host/sys.h"

namespace tierd::shim::cuda {

enum class Mode : uint8_t { off, elastic, uvm };
enum class MemoryInfo : uint8_t {
    gpu,    // as if the process had the GPU for itself
    lease,  // what tierd lets it have now
    real,   // the driver's own figures
};

// From the environment: TIERD_CUDA, TIERD_CUDA_MIN_BYTES, TIERD_CUDA_CHUNK_BYTES, TIERD_CUDA_MEMORY_INFO, TIERD_GPU_LIMIT.
struct CudaConfig {
    Mode mode = Mode::off;
    MemoryInfo memory_info = MemoryInfo::gpu;
    uint64_t min_bytes = 1u << 20;       // smaller allocations are the driver's
    uint64_t chunk_bytes = kChunkBytes;  // a power of two
    uint64_t limit_bytes =
        0;  // this process never has more of the GPU than this, tierd or not; 0: no such limit
};

struct CudaShim {
    uint32_t status = 0;    // atomic: 0 the environment was not read yet, 1 off, 2 on
    uint32_t given_up = 0;  // atomic: no new elastic memory
    CudaConfig config;
    Lock lock;
    Gate gate;
    Gpu gpu;
    Lease lease;
    Sources sources;
    Reads reads;
    GraphTable graphs;
};

extern CudaShim the_shim;
inline CudaShim& shim() {
    return the_shim;
}

// True when the configuration wants anything of the CUDA half.
bool is_enabled();
// No new elastic memory from here on; what there is, stays.
void give_up(const char* why);

// Holds the GPU's lock.
class LockGuard {
  public:
    explicit LockGuard(Lock& lock) : lock_(lock) { lock_.lock(); }
    ~LockGuard() { lock_.unlock(); }
    LockGuard(const LockGuard&) = delete;
    LockGuard& operator=(const LockGuard&) = delete;

  private:
    Lock& lock_;
};

}  // namespace tierd::shim::cuda
