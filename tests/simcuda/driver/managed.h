// managed.h - which managed memory is on the GPU: what prefetches and kernels brought there, and what had to go for it.
//
// The bytes themselves are host memory; only their place is modelled, in chunks of 2 MiB: at home, on the GPU, or in both
// places (read-mostly, as advised). A prefetch to the GPU, or a kernel that touches what is not there, takes memory from the
// ledger and the link, and sends home what this process brought there longest ago where the GPU is full; what still doesn't
// fit stays at home, where kernels reach it. Who is in both places goes home for nothing; a kernel that writes to it ends that.
// To see what kernels touch, chunks are closed to the whole process while any runs: those at home wholly, those in both places
// to writes. Host code that touches them meanwhile opens them again; a system call that does gets EFAULT.
// Invariant: each chunk that is on the GPU is charged to it once.
// Callers:   any thread; one lock, which is never held while managed memory is touched. touched() also from a handler of
//            SIGSEGV, on the thread that touched, and so allocates nothing. Fails: nothing here does.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <vector>

#include "tests/simcuda/driver/gpu.h"
#include "tests/simcuda/driver/gpu_clock.h"

namespace simcuda {

struct Advice {
    int preferred = -2;  // CU_DEVICE_INVALID; -1: the host; 0: the GPU
    bool accessed_by_device = false;
    int last_prefetch = -2;
};

class Managed {
  public:
    Managed(Gpu& gpu, GpuClock& clock) : gpu_(gpu), clock_(clock) {}

    void add(uint64_t base, uint64_t bytes);
    void remove(uint64_t base);  // gives back what is on the GPU
    // Returns when the transfer ends.
    uint64_t prefetch(uint64_t address, uint64_t bytes, bool to_device, uint64_t start_ns);
    uint64_t bytes_on_gpu(uint64_t base) const;

    void advise_read_mostly(uint64_t address, uint64_t bytes, bool read_mostly);
    bool is_read_mostly(uint64_t address, uint64_t bytes) const;  // all of it
    // Reads or changes the other advice of the range that the address lies in. false: it is none of ours.
    template <class Body>
    bool with_advice(uint64_t address, Body body) {
        std::lock_guard lock(mutex_);
        auto it = find(address);
        if (it == ranges_.end()) return false;
        body(it->second.advice);
        return true;
    }

    // A kernel runs from here to there. They overlap. The end is when the last transfer for a touch ended.
    void begin_kernel();
    uint64_t end_kernel();
    // A closed chunk was touched, by a kernel or by host code. false: the address is none of ours.
    bool touched(uint64_t address, bool by_kernel);

    struct Counters {
        std::atomic<uint64_t> faults = 0;  // chunks that kernels touched and that were not on the GPU
        std::atomic<uint64_t> bytes_to_device = 0, bytes_to_host = 0;
        std::atomic<uint64_t> most_bytes = 0;  // that were asked for, at once
    } counters;

  private:
    enum class Place : uint8_t { home, gpu, both };
    struct Range {
        uint64_t bytes = 0;
        std::vector<Place> places;
        std::vector<uint64_t> brought;  // when, by the count of all that were
        std::vector<bool> read_mostly;
        Advice advice;
    };
    std::map<uint64_t, Range>::iterator find(uint64_t address);
    std::map<uint64_t, Range>::const_iterator find(uint64_t address) const;
    uint64_t chunk_bytes(const Range& range, uint64_t index) const;
    bool send_oldest_home(uint64_t* end_ns);
    bool bring(uint64_t base, Range& range, uint64_t index, uint64_t* end_ns);
    void send_home(uint64_t base, Range& range, uint64_t index, uint64_t* end_ns);
    void protect(uint64_t base, const Range& range, uint64_t first, uint64_t end, Place as) const;
    void protect_all(bool kernels_run) const;

    Gpu& gpu_;
    GpuClock& clock_;
    mutable std::mutex mutex_;
    std::map<uint64_t, Range> ranges_;
    uint64_t brought_ = 0;
    unsigned kernels_ = 0;      // that run
    uint64_t asked_bytes_ = 0;  // of all ranges
    uint64_t touches_end_ns_ = 0;
};

}  // namespace simcuda
