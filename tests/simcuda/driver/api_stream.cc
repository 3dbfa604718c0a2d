// api_stream.cc - streams and events.
#define __CUDA_API_VERSION_INTERNAL
#include <cuda.h>

#include <algorithm>

#include "tests/simcuda/driver/entry.h"
#include "tests/simcuda/driver/graph.h"
#include "tests/simcuda/driver/operation.h"

using namespace simcuda;

namespace {

constexpr Default kLegacy = Default::legacy, kPerThread = Default::per_thread;

CUresult create_stream(CUstream* out, unsigned flags, int priority) {
    return in_context("cuStreamCreate", [&](Driver& d, Context& c) -> CUresult {
        if (flags & ~unsigned{CU_STREAM_NON_BLOCKING})
            return misuse(CUDA_ERROR_INVALID_VALUE, "flags {}", flags);
        auto stream = std::make_shared<Stream>(d.clock, c.handle, flags, std::clamp(priority, -5, 0));
        std::lock_guard lock(c.order);
        c.streams.push_back(stream);
        *out = d.streams.add(stream);
        return CUDA_SUCCESS;
    });
}

CUresult wait_stream(CUstream handle, Default which) {
    return on_stream("cuStreamSynchronize", handle, which, [&](Driver& d, Context& c, Stream& s) -> CUresult {
        std::vector<MarkPtr> marks;
        {
            std::lock_guard lock(c.order);
            if (s.capture) {
                s.capture->invalidated = true;
                return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
            }
            if (&s == c.legacy.get()) marks = legacy_order(c, s);
            if (MarkPtr tail = s.tail()) marks.push_back(std::move(tail));
        }
        for (const MarkPtr& mark : marks) d.clock.host_waited_for(mark->wait());
        return c.failed;
    });
}

CUresult query_stream(CUstream handle, Default which) {
    return on_stream("cuStreamQuery", handle, which, [&](Driver&, Context& c, Stream& s) -> CUresult {
        std::lock_guard lock(c.order);
        if (s.capture) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
        MarkPtr tail = s.tail();
        bool done = !tail || tail->reached();
        if (&s == c.legacy.get()) done = done && legacy_order(c, s).empty();
        return done ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
    });
}

CUresult find_event(Driver& d, CUevent handle, std::shared_ptr<Event>* out) {
    *out = d.events.find(handle);
    if (*out) return CUDA_SUCCESS;
    return misuse(CUDA_ERROR_INVALID_HANDLE, "{} is no event, or one that was destroyed",
                  reinterpret_cast<void*>(handle));
}

CUresult record(CUevent handle, CUstream stream, Default which, unsigned flags) {
    return on_stream("cuEventRecord", stream, which, [&](Driver& d, Context& c, Stream& s) -> CUresult {
        std::shared_ptr<Event> event;
        if (CUresult bad = find_event(d, handle, &event); bad != CUDA_SUCCESS) return bad;
        if (event->context != c.handle)
            return misuse(CUDA_ERROR_INVALID_HANDLE, "the event and the stream are of different contexts");
        {
            std::lock_guard lock(c.order);
            if (s.capture && !(flags & CU_EVENT_RECORD_EXTERNAL)) {
                std::lock_guard event_lock(event->mutex);
                event->capture = s.capture;
                event->capture_tail = s.capture_tail;
                event->mark = nullptr;
                return CUDA_SUCCESS;
            }
        }
        MarkPtr mark;
        if (CUresult bad = submit(d, c, s, RecordOp{handle, event}, &mark); bad != CUDA_SUCCESS) return bad;
        std::lock_guard lock(event->mutex);
        event->mark = std::move(mark);
        event->capture = nullptr;
        return CUDA_SUCCESS;
    });
}

// A stream that waits for an event of a capture takes part in the capture from here on.
CUresult join_capture(Context& c, Stream& s, Event& event) {
    std::lock_guard lock(c.order);
    std::lock_guard event_lock(event.mutex);
    if (s.capture && s.capture != event.capture) return CUDA_ERROR_STREAM_CAPTURE_ISOLATION;
    s.capture = event.capture;
    for (CUgraphNode node : event.capture_tail)
        if (std::find(s.capture_tail.begin(), s.capture_tail.end(), node) == s.capture_tail.end())
            s.capture_tail.push_back(node);
    return CUDA_SUCCESS;
}

CUresult wait_event(CUstream stream, CUevent handle, Default which) {
    return on_stream("cuStreamWaitEvent", stream, which, [&](Driver& d, Context& c, Stream& s) -> CUresult {
        std::shared_ptr<Event> event;
        if (CUresult bad = find_event(d, handle, &event); bad != CUDA_SUCCESS) return bad;
        MarkPtr mark;
        bool captured;
        {
            std::lock_guard lock(event->mutex);
            mark = event->mark;
            captured = event->capture != nullptr;
        }
        if (captured) return join_capture(c, s, *event);
        {
            std::lock_guard lock(c.order);
            if (s.capture) return mark ? CUDA_ERROR_STREAM_CAPTURE_ISOLATION : CUDA_SUCCESS;
        }
        if (!mark) return CUDA_SUCCESS;  // never recorded: nothing to wait for
        return submit(d, c, s, WaitOp{handle, event}, nullptr, {mark});
    });
}

CUresult destroy_stream(CUstream handle) {
    return in_context("cuStreamDestroy", [&](Driver& d, Context&) -> CUresult {
        std::shared_ptr<Stream> stream = d.streams.find(handle);
        if (!stream)
            return misuse(CUDA_ERROR_INVALID_HANDLE,
                          "{} is no stream that can be destroyed, or it was before",
                          reinterpret_cast<void*>(handle));
        std::shared_ptr<Context> owner = d.contexts.find(stream->context());
        if (owner) {
            std::lock_guard lock(owner->order);
            if (stream->capture)
                return misuse(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "the stream is being captured");
            std::erase(owner->streams, stream);
            // As documented, its work goes on: whoever waits for the context waits for it still.
            if (MarkPtr tail = stream->tail(); tail && !tail->reached())
                owner->orphans.push_back(std::move(tail));
        }
        d.streams.remove(handle);
        stream->close();
        return CUDA_SUCCESS;
    });
}

CUresult host_call(CUstream stream, Default which, HostOp op) {
    return on_stream("cuLaunchHostFunc", stream, which, [&](Driver& d, Context& c, Stream& s) -> CUresult {
        return submit(d, c, s, std::move(op), nullptr);
    });
}

HostOp host_op(CUhostFn function, void* data) {
    return {[function, data] { function(data); }, function, data};
}

template <class T, class Read>
CUresult read_stream(const char* name, CUstream handle, Default which, T* out, Read read) {
    return on_stream(name, handle, which, [&](Driver&, Context& c, Stream& s) {
        *out = read(c, s);
        return CUDA_SUCCESS;
    });
}

// What events are compared by: a pair that was recorded and reached.
CUresult elapsed(float* milliseconds, CUevent start, CUevent end) {
    return entry("cuEventElapsedTime", [&](Driver& d) -> CUresult {
        uint64_t end_ns[2];
        CUevent handles[2] = {start, end};
        for (int i = 0; i < 2; ++i) {
            std::shared_ptr<Event> event;
            if (CUresult bad = find_event(d, handles[i], &event); bad != CUDA_SUCCESS) return bad;
            std::lock_guard lock(event->mutex);
            if (!event->mark || (event->flags & CU_EVENT_DISABLE_TIMING))
                return misuse(CUDA_ERROR_INVALID_HANDLE, "an event without a time, or never recorded");
            if (!event->mark->reached()) return CUDA_ERROR_NOT_READY;
            end_ns[i] = event->mark->wait();
        }
        *milliseconds =
            static_cast<float>((static_cast<double>(end_ns[1]) - static_cast<double>(end_ns[0])) / 1e6);
        return CUDA_SUCCESS;
    });
}

}  // namespace

CUresult CUDAAPI cuStreamCreate(CUstream* out, unsigned int flags) {
    return create_stream(out, flags, 0);
}
CUresult CUDAAPI cuStreamCreateWithPriority(CUstream* out, unsigned int flags, int priority) {
    return create_stream(out, flags, priority);
}
CUresult CUDAAPI cuStreamDestroy_v2(CUstream stream) {
    return destroy_stream(stream);
}

#define SIMCUDA_PAIR(name, params, ...)                         \
    CUresult CUDAAPI name params {                              \
        [[maybe_unused]] constexpr Default kWhich = kLegacy;    \
        return __VA_ARGS__;                                     \
    }                                                           \
    CUresult CUDAAPI name##_ptsz params {                       \
        [[maybe_unused]] constexpr Default kWhich = kPerThread; \
        return __VA_ARGS__;                                     \
    }

SIMCUDA_PAIR(cuStreamSynchronize, (CUstream s), wait_stream(s, kWhich))
SIMCUDA_PAIR(cuStreamQuery, (CUstream s), query_stream(s, kWhich))
SIMCUDA_PAIR(cuStreamWaitEvent, (CUstream s, CUevent e, unsigned int), wait_event(s, e, kWhich))
SIMCUDA_PAIR(cuLaunchHostFunc, (CUstream s, CUhostFn f, void* data), host_call(s, kWhich, host_op(f, data)))
SIMCUDA_PAIR(cuStreamAddCallback, (CUstream s, CUstreamCallback f, void* data, unsigned int),
             host_call(s, kWhich, {[=] { f(s, CUDA_SUCCESS, data); }, nullptr, nullptr}))
SIMCUDA_PAIR(cuStreamGetPriority, (CUstream s, int* out),
             read_stream("cuStreamGetPriority", s, kWhich, out,
                         [](Context&, Stream& t) { return t.priority(); }))
SIMCUDA_PAIR(cuStreamGetFlags, (CUstream s, unsigned int* out),
             read_stream("cuStreamGetFlags", s, kWhich, out, [](Context&, Stream& t) { return t.flags(); }))
SIMCUDA_PAIR(cuStreamGetId, (CUstream s, unsigned long long* out),
             read_stream("cuStreamGetId", s, kWhich, out, [](Context&, Stream& t) { return t.id(); }))
SIMCUDA_PAIR(cuStreamGetCtx, (CUstream s, CUcontext* out),
             read_stream("cuStreamGetCtx", s, kWhich, out, [](Context& c, Stream&) { return c.handle; }))
SIMCUDA_PAIR(cuStreamGetCtx_v2, (CUstream s, CUcontext* out, CUgreenCtx* green),
             (*green = nullptr,
              read_stream("cuStreamGetCtx", s, kWhich, out, [](Context& c, Stream&) { return c.handle; })))
SIMCUDA_PAIR(cuStreamGetDevice, (CUstream s, CUdevice* out),
             read_stream("cuStreamGetDevice", s, kWhich, out, [](Context&, Stream&) { return 0; }))
SIMCUDA_PAIR(cuEventRecord, (CUevent e, CUstream s), record(e, s, kWhich, 0))
SIMCUDA_PAIR(cuEventRecordWithFlags, (CUevent e, CUstream s, unsigned int flags), record(e, s, kWhich, flags))

CUresult CUDAAPI cuEventCreate(CUevent* out, unsigned int flags) {
    return in_context("cuEventCreate", [&](Driver& d, Context& c) -> CUresult {
        if (flags & CU_EVENT_INTERPROCESS) return CUDA_ERROR_NOT_SUPPORTED;
        auto event = std::make_shared<Event>();
        event->context = c.handle;
        event->flags = flags;
        *out = d.events.add(std::move(event));
        return CUDA_SUCCESS;
    });
}
CUresult CUDAAPI cuEventDestroy_v2(CUevent handle) {
    return entry("cuEventDestroy", [&](Driver& d) -> CUresult {
        std::shared_ptr<Event> event;
        if (CUresult bad = find_event(d, handle, &event); bad != CUDA_SUCCESS) return bad;
        d.events.remove(handle);
        return CUDA_SUCCESS;
    });
}
CUresult CUDAAPI cuEventQuery(CUevent handle) {
    return entry("cuEventQuery", [&](Driver& d) -> CUresult {
        std::shared_ptr<Event> event;
        if (CUresult bad = find_event(d, handle, &event); bad != CUDA_SUCCESS) return bad;
        std::lock_guard lock(event->mutex);
        if (event->capture) return CUDA_ERROR_CAPTURED_EVENT;
        return !event->mark || event->mark->reached() ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
    });
}
CUresult CUDAAPI cuEventSynchronize(CUevent handle) {
    return entry("cuEventSynchronize", [&](Driver& d) -> CUresult {
        std::shared_ptr<Event> event;
        if (CUresult bad = find_event(d, handle, &event); bad != CUDA_SUCCESS) return bad;
        MarkPtr mark;
        {
            std::lock_guard lock(event->mutex);
            if (event->capture) return CUDA_ERROR_CAPTURED_EVENT;
            mark = event->mark;
        }
        if (mark) d.clock.host_waited_for(mark->wait());
        std::shared_ptr<Context> owner = d.contexts.find(event->context);
        return owner ? owner->failed.load() : CUDA_SUCCESS;
    });
}
CUresult CUDAAPI cuEventElapsedTime(float* milliseconds, CUevent start, CUevent end) {
    return elapsed(milliseconds, start, end);
}
CUresult CUDAAPI cuEventElapsedTime_v2(float* milliseconds, CUevent start, CUevent end) {
    return elapsed(milliseconds, start, end);
}
