// api_context.cc - contexts: the primary one, a program's own, and each thread's stack of them.
#define __CUDA_API_VERSION_INTERNAL
#include <cuda.h>

#include "tests/simcuda/driver/entry.h"

using namespace simcuda;

namespace {

CUresult create(CUcontext* out, unsigned flags, CUdevice device) {
    return entry("cuCtxCreate", [&](Driver& d) -> CUresult {
        if (device != 0) return CUDA_ERROR_INVALID_DEVICE;
        CUresult made = make_context(d, flags, false, out);
        if (made == CUDA_SUCCESS) context_stack().push_back(*out);
        return made;
    });
}

CUresult refuse_dead(Driver& d, CUcontext context) {
    if (d.contexts.find(context)) return CUDA_SUCCESS;
    return misuse(CUDA_ERROR_INVALID_CONTEXT, "no context, or one that was destroyed");
}

CUresult release_primary(Driver& d, bool whatever_references) {
    CUcontext last = nullptr;
    {
        std::lock_guard lock(d.primary_mutex);
        if (d.primary_references == 0 && !whatever_references)
            return misuse(CUDA_ERROR_INVALID_CONTEXT,
                          "the primary context was released more often than retained");
        if (whatever_references) d.primary_references = 1;
        if (d.primary && --d.primary_references == 0) std::swap(last, d.primary);
    }
    return last ? destroy_context(d, last) : CUDA_SUCCESS;
}

}  // namespace

CUresult CUDAAPI cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device) {
    return entry("cuDevicePrimaryCtxRetain", [&](Driver& d) -> CUresult {
        if (device != 0) return CUDA_ERROR_INVALID_DEVICE;
        std::lock_guard lock(d.primary_mutex);
        if (!d.primary)
            if (CUresult bad = make_context(d, d.primary_flags, true, &d.primary); bad != CUDA_SUCCESS)
                return bad;
        ++d.primary_references;
        *context = d.primary;
        return CUDA_SUCCESS;
    });
}
CUresult CUDAAPI cuDevicePrimaryCtxRelease_v2(CUdevice device) {
    return entry("cuDevicePrimaryCtxRelease", [&](Driver& d) {
        return device == 0 ? release_primary(d, false) : CUDA_ERROR_INVALID_DEVICE;
    });
}
CUresult CUDAAPI cuDevicePrimaryCtxReset_v2(CUdevice device) {
    return entry("cuDevicePrimaryCtxReset", [&](Driver& d) {
        return device == 0 ? release_primary(d, true) : CUDA_ERROR_INVALID_DEVICE;
    });
}
CUresult CUDAAPI cuDevicePrimaryCtxSetFlags_v2(CUdevice device, unsigned int flags) {
    return entry("cuDevicePrimaryCtxSetFlags", [&](Driver& d) {
        if (device != 0) return CUDA_ERROR_INVALID_DEVICE;
        std::lock_guard lock(d.primary_mutex);
        d.primary_flags = flags;
        if (std::shared_ptr<Context> context = d.contexts.find(d.primary)) context->flags = flags;
        return CUDA_SUCCESS;
    });
}
CUresult CUDAAPI cuDevicePrimaryCtxGetState(CUdevice device, unsigned int* flags, int* active) {
    return entry("cuDevicePrimaryCtxGetState", [&](Driver& d) {
        if (device != 0) return CUDA_ERROR_INVALID_DEVICE;
        std::lock_guard lock(d.primary_mutex);
        *flags = d.primary_flags;
        *active = d.primary ? 1 : 0;
        return CUDA_SUCCESS;
    });
}

CUresult CUDAAPI cuCtxCreate_v2(CUcontext* context, unsigned int flags, CUdevice device) {
    return create(context, flags, device);
}
CUresult CUDAAPI cuCtxCreate_v3(CUcontext* context, CUexecAffinityParam*, int count, unsigned int flags,
                                CUdevice device) {
    return count == 0 ? create(context, flags, device) : CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY;
}
CUresult CUDAAPI cuCtxCreate_v4(CUcontext* context, CUctxCreateParams* params, unsigned int flags,
                                CUdevice device) {
    bool plain = !params || (params->numExecAffinityParams == 0 && !params->cigParams);
    return plain ? create(context, flags, device) : CUDA_ERROR_NOT_SUPPORTED;
}
CUresult CUDAAPI cuCtxDestroy_v2(CUcontext context) {
    return entry("cuCtxDestroy", [&](Driver& d) -> CUresult {
        std::shared_ptr<Context> found = d.contexts.find(context);
        if (found && found->primary)
            return misuse(CUDA_ERROR_INVALID_CONTEXT, "the primary context is released, not destroyed");
        return destroy_context(d, context);
    });
}
CUresult CUDAAPI cuCtxPushCurrent_v2(CUcontext context) {
    return entry("cuCtxPushCurrent", [&](Driver& d) {
        CUresult dead = refuse_dead(d, context);
        if (dead == CUDA_SUCCESS) context_stack().push_back(context);
        return dead;
    });
}
CUresult CUDAAPI cuCtxPopCurrent_v2(CUcontext* context) {
    return entry("cuCtxPopCurrent", [&](Driver&) -> CUresult {
        if (context_stack().empty())
            return misuse(CUDA_ERROR_INVALID_CONTEXT, "this thread's stack is empty");
        if (context) *context = context_stack().back();
        context_stack().pop_back();
        return CUDA_SUCCESS;
    });
}
CUresult CUDAAPI cuCtxSetCurrent(CUcontext context) {
    return entry("cuCtxSetCurrent", [&](Driver& d) {
        if (context)
            if (CUresult dead = refuse_dead(d, context); dead != CUDA_SUCCESS) return dead;
        std::vector<CUcontext>& stack = context_stack();
        if (!stack.empty()) stack.pop_back();
        if (context) stack.push_back(context);
        return CUDA_SUCCESS;
    });
}
CUresult CUDAAPI cuCtxGetCurrent(CUcontext* context) {
    return entry("cuCtxGetCurrent", [&](Driver&) {
        *context = context_stack().empty() ? nullptr : context_stack().back();
        return CUDA_SUCCESS;
    });
}
CUresult CUDAAPI cuCtxGetDevice(CUdevice* device) {
    return in_context("cuCtxGetDevice", [&](Driver&, Context&) { return *device = 0, CUDA_SUCCESS; });
}
CUresult CUDAAPI cuCtxGetDevice_v2(CUdevice* device, CUcontext context) {
    if (!context) return cuCtxGetDevice(device);
    return entry("cuCtxGetDevice", [&](Driver& d) {
        *device = 0;
        return refuse_dead(d, context);
    });
}
CUresult CUDAAPI cuCtxGetId(CUcontext context, unsigned long long* id) {
    return entry("cuCtxGetId", [&](Driver& d) -> CUresult {
        if (!context && context_stack().empty())
            return misuse(CUDA_ERROR_INVALID_CONTEXT, "no current context");
        CUcontext which = context ? context : context_stack().back();
        *id = reinterpret_cast<uint64_t>(which);
        return refuse_dead(d, which);
    });
}
CUresult CUDAAPI cuCtxGetFlags(unsigned int* flags) {
    return in_context("cuCtxGetFlags", [&](Driver&, Context& c) { return *flags = c.flags, CUDA_SUCCESS; });
}
CUresult CUDAAPI cuCtxSetFlags(unsigned int flags) {
    return in_context("cuCtxSetFlags", [&](Driver&, Context& c) { return c.flags = flags, CUDA_SUCCESS; });
}
CUresult CUDAAPI cuCtxGetApiVersion(CUcontext, unsigned int* version) {
    return entry("cuCtxGetApiVersion", [&](Driver&) { return *version = 3020, CUDA_SUCCESS; });
}
CUresult CUDAAPI cuCtxGetStreamPriorityRange(int* least, int* greatest) {
    return in_context("cuCtxGetStreamPriorityRange", [&](Driver&, Context&) {
        if (least) *least = 0;
        if (greatest) *greatest = -5;
        return CUDA_SUCCESS;
    });
}
CUresult CUDAAPI cuCtxGetLimit(size_t* value, CUlimit limit) {
    return in_context("cuCtxGetLimit", [&](Driver&, Context& c) {
        if (limit < 0 || limit >= CU_LIMIT_MAX) return CUDA_ERROR_UNSUPPORTED_LIMIT;
        *value = c.limits[limit];
        return CUDA_SUCCESS;
    });
}
CUresult CUDAAPI cuCtxSetLimit(CUlimit limit, size_t value) {
    return in_context("cuCtxSetLimit", [&](Driver&, Context& c) {
        if (limit < 0 || limit >= CU_LIMIT_MAX) return CUDA_ERROR_UNSUPPORTED_LIMIT;
        c.limits[limit] = value;
        return CUDA_SUCCESS;
    });
}
CUresult CUDAAPI cuCtxSynchronize(void) {
    return in_context("cuCtxSynchronize", [&](Driver& d, Context& c) -> CUresult {
        drain(d, c);
        return c.failed;
    });
}
CUresult CUDAAPI cuCtxSynchronize_v2(CUcontext context) {
    if (!context) return cuCtxSynchronize();
    return entry("cuCtxSynchronize", [&](Driver& d) -> CUresult {
        std::shared_ptr<Context> found = d.contexts.find(context);
        if (!found) return refuse_dead(d, context);
        drain(d, *found);
        return found->failed;
    });
}
CUresult CUDAAPI cuCtxEnablePeerAccess(CUcontext, unsigned int) {
    return CUDA_ERROR_PEER_ACCESS_UNSUPPORTED;  // there is one device
}
CUresult CUDAAPI cuCtxDisablePeerAccess(CUcontext) {
    return CUDA_ERROR_PEER_ACCESS_NOT_ENABLED;
}
