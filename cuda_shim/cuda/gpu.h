// gpu.h - the GPU that elastic allocations are on: its context, the allocations, and the parts that keep them resident.
//
// One GPU and one context a process: those of the first elastic allocation. Other GPUs and contexts are the driver's.
//
// Owns:      the reserved range and all parts over it (residency, images, backings, streams).
// Invariant: the range's tables are what the driver has mapped.
// Callers:   any thread, with the GPU's lock held; no thread of ours is inside the gate.
// Fails:     as CUDA would: CUDA_ERROR_OUT_OF_MEMORY where the memory can't be had, the driver's own error elsewhere.
#pragma once

#include "cuda_shim/cuda/managed_backing.h"
#include "cuda_shim/cuda/residency.h"
#include "cuda_shim/cuda/vmm_backing.h"

namespace tierd::shim::cuda {

// A copy to elastic memory whose source is a slice of a weight file.
struct FileCopy {
    uint64_t to = 0;
    uint64_t length_bytes = 0;
    uint32_t file = 0;
    uint64_t offset_bytes = 0;
    const char* source = nullptr;
};

class Gpu {
  public:
    constexpr Gpu(const CudaConfig& config, Lease& lease, Gate& gate, const Sources& sources)
        : residency({config, lease, gate, range, in_flight, streams_, history_, counters}),
          config_(config),
          lease_(lease),
          gate_(gate),
          sources_(sources),
          history_(range, counters),
          store_(range, streams_, sources, counters),
          vmm_(range, streams_, store_, history_, counters),
          managed_(range, streams_, store_, gate, counters) {}

    bool is_set_up() const { return context_ != nullptr; }
    // For the calling thread's context. False: this process gets no elastic memory on it.
    bool set_up();
    // True when the calling thread's context is the GPU's.
    bool is_current() const { return driver::current_context() == context_; }
    CUcontext context() const { return context_; }
    CUdevice device() const { return device_; }
    uint64_t total_bytes() const { return total_bytes_; }
    // What all elastic allocations can be together.
    uint64_t limit_bytes() const { return backing_->limit_bytes(); }
    const CUuuid& uuid() const { return uuid_; }

    ReservedRange range;
    InFlight in_flight;
    GpuCounters counters;
    Residency residency;

    CUresult allocate(uint64_t bytes, CUdeviceptr* address);
    // Waits for everything that runs in the context, as cuMemFree does.
    CUresult free_allocation(uint32_t allocation);
    // The context is about to end: returns and forgets everything.
    void tear_down();
    // The context has ended: forgets everything, and returns what is not the context's own.
    void abandon();
    // Everything is pinned from now on, and `device` may use it.
    CUresult open_to(CUdevice device);

    // Records that the bytes come from the file. What is resident already, or can't be recorded, is copied now, on the
    // stream (or at once). The destination lies in one allocation.
    CUresult defer_copy(const FileCopy& copy, const Waiter& waiting);

    // How large all elastic allocations of this process can be together: what it has of the GPU, what is free, and what
    // other processes have leased, where that is known. May release the lock meanwhile.
    uint64_t available_bytes(uint64_t enough_bytes);

  private:
    bool has_functions() const;
    bool has_room(uint64_t chunks);
    CUresult copy_now(const FileCopy& copy, uint32_t chunk, const Waiter& waiting);
    void reset();

    const CudaConfig& config_;
    Lease& lease_;
    Gate& gate_;
    const Sources& sources_;
    FillStreams streams_;
    UseHistory history_;
    ChunkStore store_;
    VmmBacking vmm_;
    ManagedBacking managed_;
    ChunkBacking* backing_ = nullptr;  // the one in use, from set_up() on
    CUcontext context_ = nullptr;
    CUdevice device_ = 0;
    uint64_t total_bytes_ = 0;
    CUuuid uuid_ = {};
};

}  // namespace tierd::shim::cuda
