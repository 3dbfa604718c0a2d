// context_guard.h - the GPU's context on the calling thread while we talk to the driver, and the engine's own
// afterwards.
//
// Callers:   any thread, with the GPU's lock held.
#pragma once

#include "cuda_shim/cuda/driver.h"

namespace tierd::shim::cuda {

class ContextGuard {
  public:
    explicit ContextGuard(CUcontext context) {
        CUcontext before = nullptr;
        TIERD_REAL(cuCtxGetCurrent)(&before);
        pushed_ = before != context && TIERD_REAL(cuCtxPushCurrent_v2)(context) == CUDA_SUCCESS;
        // While one of the engine's streams records a graph, what we do is not part of it.
        if (auto* exchange = TIERD_REAL(cuThreadExchangeStreamCaptureMode)) exchange(&mode_);
    }
    ~ContextGuard() {
        if (auto* exchange = TIERD_REAL(cuThreadExchangeStreamCaptureMode)) exchange(&mode_);
        CUcontext popped = nullptr;
        if (pushed_) TIERD_REAL(cuCtxPopCurrent_v2)(&popped);
    }
    ContextGuard(const ContextGuard&) = delete;
    ContextGuard& operator=(const ContextGuard&) = delete;

  private:
    CUstreamCaptureMode mode_ = CU_STREAM_CAPTURE_MODE_RELAXED;
    bool pushed_ = false;
};

}  // namespace tierd::shim::cuda
