// call.h - how every function of the runtime double begins and ends. Any thread.
#pragma once

#include "tests/simcuda/runtime/runtime.h"

namespace simcudart {

// With the primary context current.
template <class Body>
cudaError_t run(Body body) {
    Runtime& r = Runtime::get();
    if (cudaError_t bad = r.begin(); bad != cudaSuccess) return note(bad);
    return note(body(r, r.legacy()));
}

// For questions that need no context.
template <class Body>
cudaError_t run_bare(Body body) {
    Runtime& r = Runtime::get();
    if (cudaError_t bad = r.begin_without_context(); bad != cudaSuccess) return note(bad);
    return note(body(r, r.legacy()));
}

// With the driver's functions for the thread's own default stream where `own`.
template <class Body>
cudaError_t run_on(bool own, Body body) {
    return run([&](Runtime& r, const DriverApi& d) { return body(own ? r.per_thread() : d); });
}

inline CUdeviceptr address(const void* pointer) {
    return reinterpret_cast<CUdeviceptr>(pointer);
}

}  // namespace simcudart
