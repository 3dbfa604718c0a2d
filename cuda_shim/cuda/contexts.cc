// contexts.cc - the end of contexts, other cards' access, and functions asked for by name. See wrappers.h.
#include "cuda_shim/cuda/current.h"
#include "cuda_shim/cuda/lookup.h"
#include "cuda_shim/cuda/shim.h"
#include "cuda_shim/cuda/wrappers.h"

namespace tierd::shim::cuda {

namespace {

// Elastic memory ends with its context.
void end_context(CUcontext context) {
    if (shim().gate.is_unused()) return;
    Hold hold(shim().lock);
    if (!shim().card.is_set_up() || shim().card.context() != context) return;
    shim().card.tear_down();
    shim().graphs.clear();
    give_up("the context was destroyed");
}

// Whether `device` is the card and its primary context the card's.
bool is_primary(CUdevice device) {
    CUcontext primary = nullptr;
    if (shim().gate.is_unused() || !shim().card.is_set_up() || shim().card.device() != device) return false;
    auto* retain = TIERD_REAL(cuDevicePrimaryCtxRetain);
    auto* release = TIERD_REAL(cuDevicePrimaryCtxRelease_v2);
    if (retain == nullptr || release == nullptr || retain(&primary, device) != CUDA_SUCCESS) return false;
    release(device);
    return primary == shim().card.context();
}

bool is_active(CUdevice device) {
    unsigned flags = 0;
    int active = 1;
    auto* ask = TIERD_REAL(cuDevicePrimaryCtxGetState);
    return ask == nullptr || ask(device, &flags, &active) != CUDA_SUCCESS || active != 0;
}

template <class Function>
CUresult reset(Function* real, CUdevice device) {
    if (is_primary(device)) end_context(shim().card.context());
    return real(device);
}

// The last release destroys the context, but nobody can ask how many were left before.
template <class Function>
CUresult release_primary(Function* real, CUdevice device) {
    bool ours = is_primary(device);
    CUresult result = real(device);
    if (ours && !is_active(device)) {
        Hold hold(shim().lock);
        shim().card.abandon();
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
    give_up("another card has access to this one");
    CUdevice device = 0;
    if (shim().gate.is_unused() || TIERD_REAL(cuCtxGetDevice)(&device) != CUDA_SUCCESS) return result;
    Hold hold(shim().lock);
    if (!shim().card.is_set_up() || shim().card.context() != peer) return result;
    CUresult opened = shim().card.open_to(device);
    shim().card.settle_gate();
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
