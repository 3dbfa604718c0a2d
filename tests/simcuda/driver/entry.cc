#include "tests/simcuda/driver/entry.h"

#include <unistd.h>

namespace simcuda {

CUresult current_context(Driver& d, std::shared_ptr<Context>* out) {
    std::vector<CUcontext>& stack = context_stack();
    if (stack.empty() || !stack.back())
        return misuse(CUDA_ERROR_INVALID_CONTEXT, "this thread has no current context");
    *out = d.contexts.find(stack.back());
    if (!*out) return misuse(CUDA_ERROR_CONTEXT_IS_DESTROYED, "this thread's current context was destroyed");
    return (*out)->failed;
}

CUresult find_stream(Driver& d, Context& c, CUstream handle, Default which, std::shared_ptr<Stream>* out) {
    bool own = handle == CU_STREAM_PER_THREAD || (handle == nullptr && which == Default::per_thread);
    if (own) {
        std::lock_guard lock(c.order);
        std::shared_ptr<Stream>& stream = c.per_thread[::gettid()];
        if (!stream) stream = std::make_shared<Stream>(d.clock, c.handle, CU_STREAM_DEFAULT, 0);
        *out = stream;
        return CUDA_SUCCESS;
    }
    if (handle == nullptr || handle == CU_STREAM_LEGACY) {
        *out = c.legacy;
        return CUDA_SUCCESS;
    }
    *out = d.streams.find(handle);
    if (!*out)
        return misuse(CUDA_ERROR_INVALID_HANDLE, "{} is no stream, or one that was destroyed",
                      reinterpret_cast<void*>(handle));
    return CUDA_SUCCESS;
}

}  // namespace simcuda
