// contexts.cc - the end of contexts, other GPUs' access, and functions asked for by name. See wrappers.h.
#include "cuda_shim/cuda/context_guard.h"
#include "cuda_shim/cuda/lookup.h"
#include "cuda_shim/cuda/shim.h"
#include "cuda_shim/cuda/wrappers.h"

namespace tierd::shim::cuda {

namespace {

// Elastic memory ends with its context.
void end_context(CUcontext context) {
    if (shim().gate.is_unused()) return;
    LockGuard guard(shim().lock);
    if (!shim().gpu.is_set_up() || shim().gpu.context() != context) return;
    shim().gpu.tear_down();
    shim().graphs.clear();
    give_up("the context was destroyed");
}

// Whether `device` is the GPU and its primary context the GPU's.
bool is_primary(CUdevice device) {
    CUcontext primary = nullptr;
    if (shim().gate.is_unused() || !shim().gpu.is_set_up() || shim().gpu.device() != device) return false;
    auto* retain = TIERD_REAL(cuDevicePrimaryCtxRetain);
    auto* release = TIERD_REAL(cuDevicePrimaryCtxRelease_v2);
    if (retain == nullptr || release == nullptr || retain(&primary, device) != CUDA_SUCCESS) return false;
    release(device);
    return primary == shim().gpu.context();
}

bool is_active(CUdevice device) {
    unsigned flags = 0;
    int active = 1;
    auto* ask = TIERD_REAL(cuDevicePrimaryCtxGetState);
    return ask == nullptr || ask(device, &flags, &active) != CUDA_SUCCESS || active != 0;
}

template <class Function>
CUresult reset(Function* real, CUdevice device) {
    if (is_primary(device)) end_context(shim().gpu.context());
    return real(device);
}

// The last release destroys the context, but nobody can ask how many were left before.
template <class Function>
CUresult release_primary(Function* real, CUdevice device) {
    bool ours = is_primary(device);
    CUresult result = real(device);
    if (ours && !is_active(device)) {
        LockGuard guard(shim().lock);
        shim().gpu.abandon();
        shim().graphs.clear();
        give_up("the context was released");
    }
    return result;
}

}  // namespace

namespace own {

CUresult cuCtxDestroy_v2(TIERD_CALL(cuCtxDestroy_v2), CUcontext context) {
    end_context(context);
    return call.real(context);
}
CUresult cuCtxDestroy(TIERD_CALL(cuCtxDestroy), CUcontext context) {
    end_context(context);
    return call.real(context);
}
CUresult cuDevicePrimaryCtxReset_v2(TIERD_CALL(cuDevicePrimaryCtxReset_v2), CUdevice device) {
    return reset(call.real, device);
}
CUresult cuDevicePrimaryCtxReset(TIERD_CALL(cuDevicePrimaryCtxReset), CUdevice device) {
    return reset(call.real, device);
}
CUresult cuDevicePrimaryCtxRelease_v2(TIERD_CALL(cuDevicePrimaryCtxRelease_v2), CUdevice device) {
    return release_primary(call.real, device);
}
CUresult cuDevicePrimaryCtxRelease(TIERD_CALL(cuDevicePrimaryCtxRelease), CUdevice device) {
    return release_primary(call.real, device);
}

// The driver opens all of cuMemAlloc's memory to a peer; ours is opened chunk by chunk, once, and then stays.
CUresult cuCtxEnablePeerAccess(TIERD_CALL(cuCtxEnablePeerAccess), CUcontext peer, unsigned flags) {
    CUresult result = call.real(peer, flags);
    if (result != CUDA_SUCCESS || !is_enabled()) return result;
    give_up("another GPU has access to this one");
    CUdevice device = 0;
    if (shim().gate.is_unused() || TIERD_REAL(cuCtxGetDevice)(&device) != CUDA_SUCCESS) return result;
    LockGuard guard(shim().lock);
    if (!shim().gpu.is_set_up() || shim().gpu.context() != peer) return result;
    CUresult opened = shim().gpu.open_to(device);
    shim().gpu.residency.update_gate();
    return opened;
}

CUresult cuGetProcAddress(TIERD_CALL(cuGetProcAddress), const char* symbol, void** found, int cuda_version,
                          cuuint64_t flags) {
    CUresult result = call.real(symbol, found, cuda_version, flags);
    if (result == CUDA_SUCCESS && found != nullptr && *found != nullptr)
        *found = ours_for(symbol, *found, cuda_version, flags);
    return result;
}

CUresult cuGetProcAddress_v2(TIERD_CALL(cuGetProcAddress_v2), const char* symbol, void** found,
                             int cuda_version, cuuint64_t flags, CUdriverProcAddressQueryResult* status) {
    CUresult result = call.real(symbol, found, cuda_version, flags, status);
    if (result == CUDA_SUCCESS && found != nullptr && *found != nullptr)
        *found = ours_for(symbol, *found, cuda_version, flags);
    return result;
}

}  // namespace own

}  // namespace tierd::shim::cuda
