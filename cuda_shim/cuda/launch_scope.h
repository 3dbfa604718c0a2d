// launch_scope.h - one call of the engine's that uses device memory, on its way to the driver.
//
// Through the open gate it costs one atomic load. Otherwise it takes the GPU's lock, collects what the call reaches,
// makes that resident, and lets the call go with the gate's word set, so that nobody takes memory away under it.
//
// Owns:      nothing.
// Invariant: between enter() and the destructor everything that was named is resident, and the call's stream (or this
//            thread) has waited for its fills.
// Callers:   the engine's threads, without our locks. One object a call.
// Fails:     enter() gives what CUDA would: CUDA_ERROR_OUT_OF_MEMORY, or the driver's own error.
#pragma once

#include "cuda_shim/cuda/gpu.h"
#include "cuda_shim/cuda/shim.h"

namespace tierd::shim::cuda {

// The stream that a call's handle means.
inline Waiter stream_of(CUstream stream, bool per_thread) {
    if (stream != nullptr) return {stream, true};
    return {per_thread ? CU_STREAM_PER_THREAD : CU_STREAM_LEGACY, true};
}
// For calls without one, which run on the default stream: this thread waits.
inline Waiter no_stream(bool per_thread) {
    return {per_thread ? CU_STREAM_PER_THREAD : CU_STREAM_LEGACY, false};
}

class LaunchScope {
  public:
    explicit LaunchScope(const Waiter& waiting);
    ~LaunchScope();
    LaunchScope(const LaunchScope&) = delete;
    LaunchScope& operator=(const LaunchScope&) = delete;

    // True: the gate is open, nothing need be named.
    bool is_open() const { return open_; }

    // See access_set.h. Through the open gate they cost nothing.
    void access_address(uint64_t address) {
        if (!open_) access_.add_address(range(), address);
    }
    void access_range(uint64_t address, uint64_t length_bytes) {
        if (!open_) access_.add_range(range(), address, length_bytes);
    }
    void access_bytes(const void* bytes, size_t length) {
        if (!open_) access_.add_words(range(), bytes, length);
    }
    void access_parameters(CUfunction function, void** parameters, void** extra) {
        if (!open_) access_.add_parameters(range(), function, parameters, extra);
    }
    void access_graph(CUgraphExec graph);
    void all();
    // As above, and never dropped again: the address is kept somewhere that we don't see.
    void pin_address(uint64_t address);
    void pin_bytes(const void* bytes, size_t length);

    CUresult enter();

    const Waiter& waiting() const { return waiting_; }
    // The stream records a graph: nothing runs now.
    bool is_captured() const;
    // Takes the lock, where the gate was open. For calls that change the tables.
    void close();

  private:
    enum class Place : uint8_t { outside, locked, inside };
    static const ReservedRange& range();
    void note_launch(bool captured);

    Waiter waiting_;
    bool open_ = false;
    bool pins_ = false;
    Place place_ = Place::outside;
    uint64_t fence_ = 0;  // of the call that goes to the driver; see in_flight.h
    AccessSet access_;
};

// The same call where the gate is open and nothing else is to be done: no more than a look at the gate, on both sides.
class FastPath {
  public:
    FastPath() : open_(shim().gate.enter()) {}
    ~FastPath() {
        if (open_) Gate::leave();
    }
    FastPath(const FastPath&) = delete;
    FastPath& operator=(const FastPath&) = delete;

    bool is_open() const { return open_; }

  private:
    bool open_;
};

}  // namespace tierd::shim::cuda
