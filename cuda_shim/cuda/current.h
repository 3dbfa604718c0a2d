// current.h - the card's context on the calling thread while we talk to the driver, and the engine's own afterwards.
//
// Callers:   any thread, with the card's lock held.
#pragma once

#include "cuda_shim/cuda/driver.h"

namespace tierd::shim::cuda {

class Current {
  public:
    explicit Current(CUcontext context) {
        CUcontext before = nullptr;
        TIERD_REAL(cuCtxGetCurrent)(&before);
        pushed_ = before != context && TIERD_REAL(cuCtxPushCurrent_v2)(context) == CUDA_SUCCESS;
        // While one of the engine's streams records a graph, what we do is not part of it.
        if (auto* exchange = TIERD_REAL(cuThreadExchangeStreamCaptureMode)) exchange(&mode_);
    }
    ~Current() {
        if (auto* exchange = TIERD_REAL(cuThreadExchangeStreamCaptureMode)) exchange(&mode_);
        CUcontext popped = nullptr;
        if (pushed_) TIERD_REAL(cuCtxPopCurrent_v2)(&popped);
    }
    Current(const Current&) = delete;
    Current& operator=(const Current&) = delete;

  private:
    CUstreamCaptureMode mode_ = CU_STREAM_CAPTURE_MODE_RELAXED;
    bool pushed_ = false;
};

}  // namespace tierd::shim::cuda
