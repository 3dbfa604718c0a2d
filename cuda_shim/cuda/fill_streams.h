// fill_streams.h - the two streams that fill chunks, and the event that launches wait for.
//
// Owns:      one stream for copies, one for hashes, one event. They end with the context.
// Invariant: while fills are pending, the event is behind the last of them.
// Callers:   with the GPU's lock held and its context current.
// Fails:     with the driver's own error.
#pragma once

#include "cuda_shim/cuda/driver_calls.h"

namespace tierd::shim::cuda {

// Where work waits for fills: its stream, or (of a call that names none) the calling thread itself.
struct Waiter {
    CUstream stream = nullptr;
    bool has_stream = false;
};

class FillStreams {
  public:
    bool prepare() {
        return driver::create_stream(&copies_) && driver::create_stream(&hashes_) &&
               driver::create_event(&filled_);
    }
    CUstream copies() const { return copies_; }
    CUstream hashes() const { return hashes_; }

    // What `stream` was given so far is a fill that launches wait for.
    CUresult add_fill(CUstream stream) {
        pending_ = true;
        return driver::record(filled_, stream);
    }
    bool is_pending() {
        if (pending_ && driver::has_ended(filled_)) pending_ = false;
        return pending_;
    }
    CUresult wait(const Waiter& waiting) {
        if (!pending_) return CUDA_SUCCESS;
        if (waiting.has_stream) return driver::make_wait(waiting.stream, filled_);
        CUresult result = driver::wait(filled_);
        if (driver::ok(result)) pending_ = false;
        return result;
    }

  private:
    CUstream copies_ = nullptr;
    CUstream hashes_ = nullptr;
    CUevent filled_ = nullptr;
    bool pending_ = false;
};

}  // namespace tierd::shim::cuda
