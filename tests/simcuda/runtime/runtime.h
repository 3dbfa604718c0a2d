// runtime.h - the state of the double of libcudart.so.13: the driver's functions, and the kernels of the program.
//
// It finds the driver as the real runtime does: dlopen of libcuda.so.1, one dlsym of cuGetProcAddress_v2, and every other
// function from that, by version and default stream. So whoever stands between a runtime and a driver stands here too.
// Owns:      one Runtime for the process (a runtime library is reached through plain functions), never destroyed.
// Callers:   any thread.
// Fails:     with the cudaError_t of the driver's CUresult; the numbers are the same by documentation.
#pragma once

#include <cuda.h>
#include <cudaTypedefs.h>
#include <cuda_runtime_api.h>

#include <deque>
#include <mutex>
#include <string>
#include <unordered_map>

namespace simcudart {

struct DriverApi {
#define USES(name, version) PFN_##name##_v##version name = nullptr;
#include "tests/simcuda/runtime/driver_api.inc"
#undef USES
};

// One registered fat binary, and what it was loaded as.
struct Binary {
    const void* image = nullptr;
    CUmodule module = nullptr;
};
struct Kernel {
    Binary* binary = nullptr;
    std::string name;
    CUfunction function = nullptr;
};

class Runtime {
  public:
    static Runtime& get();

    // Ready to work on this thread, with the device's primary context current. Errors: of cuInit and of the context.
    cudaError_t begin();
    cudaError_t begin_without_context();

    const DriverApi& legacy() const { return legacy_; }
    const DriverApi& per_thread() const { return per_thread_; }

    Binary* add_binary(const void* image);
    void add_kernel(Binary* binary, const void* host_function, const char* name);
    // The kernel behind a host function. Errors: cudaErrorInvalidDeviceFunction.
    cudaError_t kernel_of(const void* host_function, Kernel** out);
    // Its driver function; loads its binary the first time.
    cudaError_t function_of(Kernel& kernel, CUfunction* out);
    cudaError_t entry_point(const char* symbol, void** out, unsigned version, unsigned long long flags,
                            cudaDriverEntryPointQueryResult* status);
    cudaError_t reset();

  private:
    Runtime();
    cudaError_t find_driver();

    PFN_cuGetProcAddress_v12000 proc_address_ = nullptr;
    DriverApi legacy_, per_thread_;
    cudaError_t found_ = cudaSuccess;
    std::mutex mutex_;  // the fields below
    std::deque<Binary> binaries_;
    std::unordered_map<const void*, Kernel> kernels_;
    CUcontext context_ = nullptr;
};

cudaError_t& last_error();            // this thread's
cudaError_t note(cudaError_t error);  // keeps it as the last, as every call does
inline cudaError_t note(CUresult result) {
    return note(static_cast<cudaError_t>(result));
}

}  // namespace simcudart
