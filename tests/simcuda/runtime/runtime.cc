#include "tests/simcuda/runtime/runtime.h"

#include <dlfcn.h>

namespace simcudart {
namespace {

cudaError_t of(CUresult result) {
    return static_cast<cudaError_t>(result);
}

template <class F>
bool ask(PFN_cuGetProcAddress_v12000 proc_address, const char* name, int version, cuuint64_t flags, F* out) {
    void* found = nullptr;
    CUdriverProcAddressQueryResult status = {};
    CUresult result = proc_address(name, &found, version, flags, &status);
    *out = reinterpret_cast<F>(found);
    return result == CUDA_SUCCESS && found;
}

bool fill(PFN_cuGetProcAddress_v12000 proc_address, cuuint64_t flags, DriverApi* api) {
    bool all = true;
#define USES(name, version) all = ask(proc_address, #name, version, flags, &api->name) && all;
#include "tests/simcuda/runtime/driver_api.inc"
#undef USES
    return all;
}

}  // namespace

Runtime& Runtime::get() {
    static Runtime* runtime = new Runtime;
    return *runtime;
}

Runtime::Runtime() {
    found_ = find_driver();
}

cudaError_t Runtime::find_driver() {
    void* library = ::dlopen("libcuda.so.1", RTLD_NOW);
    if (!library) return cudaErrorInsufficientDriver;
    proc_address_ = reinterpret_cast<PFN_cuGetProcAddress_v12000>(::dlsym(library, "cuGetProcAddress_v2"));
    if (!proc_address_) return cudaErrorInsufficientDriver;
    bool all = fill(proc_address_, CU_GET_PROC_ADDRESS_LEGACY_STREAM, &legacy_) &&
               fill(proc_address_, CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM, &per_thread_);
    return all ? of(legacy_.cuInit(0)) : cudaErrorInsufficientDriver;
}

cudaError_t Runtime::begin_without_context() {
    return found_;
}

cudaError_t Runtime::begin() {
    if (found_ != cudaSuccess) return found_;
    CUcontext current = nullptr;
    if (CUresult bad = legacy_.cuCtxGetCurrent(&current); bad != CUDA_SUCCESS) return of(bad);
    if (current) return cudaSuccess;  // the program's own, or ours from an earlier call
    std::lock_guard lock(mutex_);
    if (!context_)
        if (CUresult bad = legacy_.cuDevicePrimaryCtxRetain(&context_, 0); bad != CUDA_SUCCESS)
            return of(bad);
    return of(legacy_.cuCtxSetCurrent(context_));
}

cudaError_t Runtime::reset() {
    if (found_ != cudaSuccess) return found_;
    std::lock_guard lock(mutex_);
    context_ = nullptr;
    for (Binary& binary : binaries_) binary.module = nullptr;
    for (auto& [host, kernel] : kernels_) kernel.function = nullptr;
    legacy_.cuCtxSetCurrent(nullptr);
    return of(legacy_.cuDevicePrimaryCtxReset(0));
}

Binary* Runtime::add_binary(const void* image) {
    std::lock_guard lock(mutex_);
    return &binaries_.emplace_back(Binary{image, nullptr});
}

void Runtime::add_kernel(Binary* binary, const void* host_function, const char* name) {
    std::lock_guard lock(mutex_);
    kernels_[host_function] = Kernel{binary, name, nullptr};
}

cudaError_t Runtime::kernel_of(const void* host_function, Kernel** out) {
    std::lock_guard lock(mutex_);
    auto it = kernels_.find(host_function);
    if (it == kernels_.end()) return cudaErrorInvalidDeviceFunction;
    *out = &it->second;  // nodes of the table never move
    return cudaSuccess;
}

cudaError_t Runtime::function_of(Kernel& kernel, CUfunction* out) {
    std::lock_guard lock(mutex_);
    if (!kernel.function) {
        Binary& binary = *kernel.binary;
        if (!binary.module)
            if (CUresult bad = legacy_.cuModuleLoadFatBinary(&binary.module, binary.image);
                bad != CUDA_SUCCESS)
                return of(bad);
        if (legacy_.cuModuleGetFunction(&kernel.function, binary.module, kernel.name.c_str()) != CUDA_SUCCESS)
            return cudaErrorInvalidDeviceFunction;
    }
    *out = kernel.function;
    return cudaSuccess;
}

cudaError_t Runtime::entry_point(const char* symbol, void** out, unsigned version, unsigned long long flags,
                                 cudaDriverEntryPointQueryResult* status) {
    if (found_ != cudaSuccess) return found_;
    CUdriverProcAddressQueryResult answer = {};
    CUresult result = proc_address_(symbol, out, static_cast<int>(version), flags, &answer);
    if (status) *status = static_cast<cudaDriverEntryPointQueryResult>(answer);
    return of(result);
}

cudaError_t& last_error() {
    thread_local cudaError_t error = cudaSuccess;
    return error;
}

cudaError_t note(cudaError_t error) {
    // Not ready is an answer, not an error.
    if (error != cudaSuccess && error != cudaErrorNotReady) last_error() = error;
    return error;
}

}  // namespace simcudart
