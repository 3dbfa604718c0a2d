// gpu.h - the GPU's memory under the elastic allocations: what is brought, what is dropped, and how.
//
// One GPU and one context a process: those of the first elastic allocation. Other GPUs and contexts are the driver's.
//
// Owns:      the reserved range, the chunks' memory, the saved copies, the staging buffers, two streams and the hash kernel.
// Invariant: the range's tables say what the driver has mapped. A chunk's memory is returned only after every
//            launch that could reach it has ended, and only when its image was proved equal or made so. Whoever
//            launches waits (on its stream) for all fills before.
// Callers:   any thread, with the GPU's lock held; no thread of ours is inside the gate.
// Fails:     as CUDA would: CUDA_ERROR_OUT_OF_MEMORY where the memory can't be had, the driver's own error elsewhere.
#pragma once

#include "cuda_shim/cuda/access_set.h"
#include "cuda_shim/cuda/ahead.h"
#include "cuda_shim/cuda/driver.h"
#include "cuda_shim/cuda/hash.h"
#include "cuda_shim/cuda/in_flight.h"
#include "cuda_shim/cuda/reserved_range.h"
#include "cuda_shim/host/sys.h"

namespace tierd::shim::cuda {

// Where work waits for fills: its stream, or (of a call that names none) the calling thread itself.
struct Waiter {
    CUstream stream = nullptr;
    bool has_stream = false;
};

struct GpuCounters {
    uint64_t chunks_filled = 0;
    uint64_t bytes_from_files = 0;
    uint64_t bytes_from_saved = 0;
    uint64_t chunks_dropped = 0;  // proved equal to their image
    uint64_t chunks_saved = 0;
    uint64_t chunks_freed = 0;    // by the engine
    uint64_t bytes_deferred = 0;  // recorded instead of copied
    uint64_t waits = 0;           // for tierd's grant
    uint64_t most_chunks = 0;     // at once in the GPU's memory
    uint64_t chunks_ahead = 0;    // brought before anybody asked for them
    uint64_t chunks_ahead_used = 0;
    // Of the time that others waited for what they had asked back: for this process to idle or its slice to end, for calls
    // that were still running, for the proof that chunks are unwritten, for the saved ones, and for the driver to take it.
    uint64_t reclaims = 0;
    uint64_t patience_ns = 0;
    uint64_t calls_ns = 0;
    uint64_t proof_ns = 0;
    uint64_t save_ns = 0;
    uint64_t return_ns = 0;
};

// Adds what passes until its end.
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

class Gpu {
  public:
    bool is_set_up() const { return context_ != nullptr; }
    // For the calling thread's context. False: this process gets no elastic memory on it.
    bool set_up();
    // True when the calling thread's context is the GPU's.
    bool is_current() const;
    CUcontext context() const { return context_; }
    CUdevice device() const { return device_; }
    uint64_t total_bytes() const { return total_bytes_; }
    // What all elastic allocations together can be.
    uint64_t limit_bytes() const { return managed_ != 0 ? range.length_bytes() : total_bytes_; }
    const CUuuid& uuid() const { return uuid_; }

    ReservedRange range;
    InFlight in_flight;
    GpuCounters counters;

    CUresult allocate(uint64_t bytes, CUdeviceptr* address);
    // Waits for everything that runs in the context, as cuMemFree does.
    CUresult free_allocation(uint32_t allocation);
    // The context is about to go: returns and forgets everything.
    void tear_down();
    // The context has gone: forgets everything, and returns what is not the context's own.
    void abandon();
    // Everything stays in the GPU's memory from now on, and another GPU may use it.
    CUresult open_to(CUdevice device);

    // Makes what `reach` names resident and filled, within the lease. `waiting` then waits for the fills.
    CUresult bring(const AccessSet& access, const Waiter& waiting);
    // Brings what is expected to be needed after `now`, whose call has just gone to the driver. Waits for nobody.
    void read_ahead(const AccessSet& now);
    // Gives memory back until at most `chunks` are resident, or nothing else can go. Launches wait meanwhile.
    void shrink_to(uint32_t chunks);
    // Never to be dropped again. Brings it, too.
    CUresult pin(const AccessSet& access, const Waiter& waiting);

    // Records that [address, +length), which lies in one allocation, comes from the file; what is in the GPU's memory
    // already, or can't be recorded, is copied there now, from `source`, on the stream (or at once).
    CUresult defer_copy(uint64_t address, uint64_t length, uint32_t file, uint64_t offset_bytes,
                        const char* source, const Waiter& waiting);

    // Without tierd: gives everything back when the GPU is nearly full and this process has no use for it, or has had
    // it for long enough. Others may be waiting, and have no other way to say so.
    void give_way(bool idle);

    // What all elastic allocations of this process may be together: what it has of the GPU, what is free, and what other
    // processes would give back, where that is to be known. May let go of the lock.
    uint64_t room_bytes(uint64_t enough_bytes);
    uint32_t pinned_chunks() const;
    // Opens the gate when there is nothing to wait for and nothing absent, else closes it.
    void update_gate();

  private:
    friend class ContextGuard;
    static constexpr uint32_t kStages = 4;
    struct Stage {
        char* buffer = nullptr;
        CUevent copied = nullptr;
    };
    bool has_functions() const;
    bool reserve_window();
    bool make_streams();
    bool make_hash();
    CUresult make_room(const AccessSet& keep);
    CUresult bring_parts(const AccessSet& access);
    CUresult bring_part(const AccessSet::Part& part, const AccessSet& keep, bool patient);
    uint32_t limit() const;
    CUresult take_memory(uint32_t chunk, const AccessSet& keep, bool patient);
    CUresult fill(uint32_t chunk);
    CUresult copy_slices(uint32_t chunk, Stage& stage);
    CUresult read_slice(const FileSlice& slice, char* into);
    CUresult start_hash(uint32_t chunk, CUdeviceptr sums);
    CUresult wait_for_fills(const Waiter& waiting);
    uint32_t evict(uint32_t chunks, const AccessSet& keep);
    bool evict_all_of(uint64_t chunks, const AccessSet& keep, uint64_t beyond);
    uint32_t choose(uint32_t* victims, uint32_t wanted, const AccessSet& keep, uint64_t beyond) const;
    uint32_t give_back(const uint32_t* victims, uint32_t count);
    bool prove(const uint32_t* victims, uint32_t count, bool* equal);
    bool come_to_rest(const uint32_t* victims, uint32_t count);
    bool save_others(const uint32_t* victims, uint32_t count, const bool* equal, bool* saved);
    bool save(uint32_t chunk);
    void return_memory(uint32_t chunk);
    // uvm.cc: the same where the reserved range is managed memory.
    bool reserve_managed();
    void free_managed();
    CUresult bring_managed(uint32_t chunk);
    CUresult write_slices(uint32_t chunk);
    uint32_t send_home(const uint32_t* victims, uint32_t count);
    void release_managed(uint32_t chunk);
    char* take_saved();
    void give_saved(uint64_t address);
    uint32_t absent_in(const AccessSet& access) const;
    uint32_t absent_in(const AccessSet::Part& part) const;
    uint32_t least_for(const AccessSet& access) const;
    bool has_room(uint64_t chunks);
    void note_use(const AccessSet& access);
    uint64_t calls_until_use(const Allocation& allocation) const;

    CUcontext context_ = nullptr;
    CUdevice device_ = 0;
    uint64_t total_bytes_ = 0;
    CUuuid uuid_ = {};
    CUmemAllocationProp memory_kind_ = {};
    CUstream fills_ = nullptr;
    CUstream hashes_ = nullptr;
    CUevent filled_ = nullptr;  // behind the last fill and its hash
    bool fills_pending_ = false;
    Stage stages_[kStages];
    uint32_t next_stage_ = 0;
    CUfunction hash_ = nullptr;  // null: nothing can be proved, so everything is saved
    HashKey key_ = {};
    CUdeviceptr sums_ = 0;    // of each chunk when it was filled, on the GPU
    CUdeviceptr proofs_ = 0;  // of each chunk when it is to be dropped, on the GPU
    Hash* seen_sums_ = nullptr;
    Hash* seen_proofs_ = nullptr;
    CUdeviceptr managed_ = 0;  // the range's managed memory; 0: it is of our own chunks
    bool managed_freed_ = false;
    uint64_t gave_way_ns_ = 0;
    uint64_t free_saved_ = 0;  // list of saved copies that are free, linked through their first word
    uint64_t calls_ = 0;       // that came to the lock; the clock of `used_at`
    Ahead ahead_;
};

}  // namespace tierd::shim::cuda
