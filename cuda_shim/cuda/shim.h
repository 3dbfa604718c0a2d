// shim.h - the one struct of the CUDA half, and its configuration. Like the host half, a preloaded library has nowhere
// to
// pass its state.
//
// Owns:      everything of the CUDA half.
// Invariant: lock order: the GPU's lock (`lock`), then the host half's request lock, then its table lock; the gate's
//            list
//            lock last. The GPU's lock may be held while the driver works and while weights are read: only launches
//            that
//            find something absent, and whoever takes memory away, wait for it. Launches that find everything
//            resident never take it.
// Callers:   any thread. is_enabled() may be called before any constructor.
// Fails:     what goes wrong while the GPU is set up leaves the process without elastic memory, with one line in the
//            log.
#pragma once

#include <stdint.h>

#include "cuda_shim/cuda/gate.h"
#include "cuda_shim/cuda/gpu.h"
#include "cuda_shim/cuda/graphs.h"
#include "cuda_shim/cuda/lease.h"
#include "cuda_shim/cuda/lock_guard.h"
#include "cuda_shim/cuda/reads.h"
#include "cuda_shim/cuda/source.h"
#include "cuda_shim/host/sys.h"

namespace tierd::shim::cuda {

struct CudaShim {
    constexpr CudaShim() : gpu(config, lease, gate, sources), lease(gpu, gate, sources, lock) {}

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

}  // namespace tierd::shim::cuda
