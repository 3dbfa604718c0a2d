// entry.h - how every entry point begins: is the driver there, is there a context, which stream is meant; and that no
// exception leaves. The name is printed where the call is misused.
#pragma once

#include <new>

#include "tests/simcuda/driver/driver.h"
#include "tests/simcuda/driver/misuse.h"

namespace simcuda {

// Which stream the handle 0 stands for: that of the context, or the thread's own (functions ending in _ptds, _ptsz).
enum class Default { legacy, per_thread };

template <class Body>
CUresult entry(const char* name, Body body) {
    CallName call(name);
    Driver* d = driver();
    if (!d) return CUDA_ERROR_NOT_INITIALIZED;
    try {
        return body(*d);
    } catch (const std::bad_alloc&) {
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
}

// The current context, or why there is none to work with.
CUresult current_context(Driver& d, std::shared_ptr<Context>* out);

template <class Body>
CUresult in_context(const char* name, Body body) {
    return entry(name, [&](Driver& d) -> CUresult {
        if (on_stream_thread())
            return misuse(CUDA_ERROR_NOT_PERMITTED, "a CUDA call from a host function of a stream");
        std::shared_ptr<Context> context;
        if (CUresult none = current_context(d, &context); none != CUDA_SUCCESS) return none;
        return body(d, *context);
    });
}

// Errors: CUDA_ERROR_INVALID_HANDLE for no stream of ours; the context is the stream's own.
CUresult find_stream(Driver& d, Context& c, CUstream handle, Default which, std::shared_ptr<Stream>* out);

template <class Body>
CUresult on_stream(const char* name, CUstream handle, Default which, Body body) {
    return in_context(name, [&](Driver& d, Context& c) -> CUresult {
        std::shared_ptr<Stream> stream;
        if (CUresult bad = find_stream(d, c, handle, which, &stream); bad != CUDA_SUCCESS) return bad;
        if (stream->context() == c.handle) return body(d, c, *stream);
        std::shared_ptr<Context> owner = d.contexts.find(stream->context());
        if (!owner) return misuse(CUDA_ERROR_CONTEXT_IS_DESTROYED, "the stream's context was destroyed");
        return body(d, *owner, *stream);
    });
}

}  // namespace simcuda
