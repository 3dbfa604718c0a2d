// residency.h - which chunks are in the GPU's memory: made resident for launches, read ahead, evicted for others.
//
// Owns:      nothing; it decides over the range, the history and the backing.
// Invariant: no more chunks are resident than the lease allows, but while it shrinks. A chunk is evicted only after
//            every
//            launch that could use it has ended. A launch waits (on its stream) for all fills before it.
// Callers:   any thread, with the GPU's lock held; no thread of ours is inside the gate.
// Fails:     as CUDA would: CUDA_ERROR_OUT_OF_MEMORY where the memory can't be had, the driver's own error elsewhere.
#pragma once

#include "cuda_shim/cuda/chunk_backing.h"
#include "cuda_shim/cuda/config.h"
#include "cuda_shim/cuda/fill_streams.h"
#include "cuda_shim/cuda/gate.h"
#include "cuda_shim/cuda/in_flight.h"
#include "cuda_shim/cuda/lease.h"
#include "cuda_shim/cuda/use_history.h"

namespace tierd::shim::cuda {

// The parts of the CUDA half that residency is decided over.
struct ResidencyParts {
    const CudaConfig& config;
    Lease& lease;
    Gate& gate;
    ReservedRange& range;
    InFlight& in_flight;
    FillStreams& streams;
    UseHistory& history;
    GpuCounters& counters;
};

class Residency {
  public:
    constexpr explicit Residency(const ResidencyParts& parts) : parts_(parts) {}
    void prepare(CUcontext context, ChunkBacking* backing) {
        context_ = context;
        backing_ = backing;
    }

    // Makes what `access` names resident and filled, within the lease. `waiting` then waits for the fills.
    CUresult make_resident(const AccessSet& access, const Waiter& waiting);
    // The same, and it is never evicted again.
    CUresult pin(const AccessSet& access, const Waiter& waiting);
    // Reads ahead what is expected after `now`, whose call has just gone to the driver. Waits for nothing.
    void read_ahead(const AccessSet& now);
    // Evicts until at most `chunks` are resident, or nothing else can go. Launches wait meanwhile.
    void shrink_to(uint32_t chunks);
    // Without tierd: evicts everything when the GPU is nearly full and this process idles or has had its time, so that
    // other processes get memory.
    void yield(bool idle);

    uint32_t pinned_chunks() const;
    // Opens the gate when no fill is pending and no chunk absent, else closes it.
    void update_gate();

  private:
    CUresult make_room(const AccessSet& keep);
    CUresult load(const AccessSet& access);
    CUresult load_part(const AccessSet::Part& part, const AccessSet& keep, bool patient);
    CUresult add_memory(uint32_t chunk, const AccessSet& keep, bool patient);
    uint32_t evict(uint32_t chunks, const AccessSet& keep);
    bool evict_all_of(uint64_t chunks, const AccessSet& keep, uint64_t beyond);
    uint32_t evict_victims(const uint32_t* victims, uint32_t count);
    bool quiesce(const uint32_t* victims, uint32_t count);
    uint32_t limit_chunks() const;
    uint32_t absent_in(const AccessSet& access) const;
    uint32_t absent_in(const AccessSet::Part& part) const;
    uint32_t least_for(const AccessSet& access) const;

    const ResidencyParts parts_;
    CUcontext context_ = nullptr;
    ChunkBacking* backing_ = nullptr;
    uint64_t yielded_ns_ = 0;
};

}  // namespace tierd::shim::cuda
