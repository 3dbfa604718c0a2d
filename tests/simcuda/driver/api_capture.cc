// api_capture.cc - graphs that are recorded from streams.
#define __CUDA_API_VERSION_INTERNAL
#include <cuda.h>

#include <algorithm>
#include <atomic>

#include "tests/simcuda/driver/entry.h"
#include "tests/simcuda/driver/graph.h"

using namespace simcuda;

namespace {

constexpr Default kLegacy = Default::legacy, kPerThread = Default::per_thread;
thread_local CUstreamCaptureMode thread_mode = CU_STREAM_CAPTURE_MODE_GLOBAL;

CUresult begin(CUstream handle, CUstreamCaptureMode mode, Default which) {
    return on_stream("cuStreamBeginCapture", handle, which,
                     [&](Driver& d, Context& c, Stream& s) -> CUresult {
                         static std::atomic<uint64_t> next_id = 1;
                         std::lock_guard lock(c.order);
                         if (&s == c.legacy.get()) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
                         if (s.capture)
                             return misuse(CUDA_ERROR_ILLEGAL_STATE, "the stream is being captured already");
                         auto capture = std::make_shared<Capture>();
                         capture->graph = std::make_shared<Graph>();
                         capture->handle = d.graphs.add(capture->graph);
                         capture->graph->handle = capture->handle;
                         capture->origin = &s;
                         capture->id = next_id++;
                         capture->mode = mode;
                         s.capture = std::move(capture);
                         s.capture_tail.clear();
                         return CUDA_SUCCESS;
                     });
}

// Is there a node that nothing of the origin comes after: a stream that joined and never came back?
bool has_loose_ends(const Graph& graph, const std::vector<CUgraphNode>& tail) {
    for (const auto& [handle, node] : graph.nodes) {
        CUgraphNode end = handle;
        bool followed = std::any_of(graph.nodes.begin(), graph.nodes.end(), [&](const auto& other) {
            const std::vector<CUgraphNode>& after = other.second->after;
            return std::find(after.begin(), after.end(), end) != after.end();
        });
        if (!followed && std::find(tail.begin(), tail.end(), end) == tail.end()) return true;
    }
    return false;
}

void leave(Stream& s, const Capture& capture) {
    if (s.capture.get() != &capture) return;
    s.capture = nullptr;
    s.capture_tail.clear();
}

CUresult end(CUstream handle, CUgraph* out, Default which) {
    return on_stream("cuStreamEndCapture", handle, which, [&](Driver& d, Context& c, Stream& s) -> CUresult {
        std::lock_guard lock(c.order);
        std::shared_ptr<Capture> capture = s.capture;
        if (!capture) return misuse(CUDA_ERROR_ILLEGAL_STATE, "the stream is not being captured");
        if (capture->origin != &s) return CUDA_ERROR_STREAM_CAPTURE_UNMATCHED;
        bool loose = has_loose_ends(*capture->graph, s.capture_tail);
        for (const auto& stream : c.streams) leave(*stream, *capture);
        for (const auto& [thread, stream] : c.per_thread) leave(*stream, *capture);
        *out = nullptr;
        if (capture->invalidated || loose) {
            d.graphs.remove(capture->handle);
            return loose ? CUDA_ERROR_STREAM_CAPTURE_UNJOINED : CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
        }
        *out = capture->handle;
        return CUDA_SUCCESS;
    });
}

struct Info {
    CUstreamCaptureStatus* status;
    cuuint64_t* id = nullptr;
    CUgraph* graph = nullptr;
    const CUgraphNode** after = nullptr;
    size_t* count = nullptr;
};

CUresult info(CUstream handle, Default which, Info out) {
    return on_stream("cuStreamGetCaptureInfo", handle, which,
                     [&](Driver&, Context& c, Stream& s) -> CUresult {
                         std::lock_guard lock(c.order);
                         *out.status = !s.capture               ? CU_STREAM_CAPTURE_STATUS_NONE
                                       : s.capture->invalidated ? CU_STREAM_CAPTURE_STATUS_INVALIDATED
                                                                : CU_STREAM_CAPTURE_STATUS_ACTIVE;
                         if (*out.status != CU_STREAM_CAPTURE_STATUS_ACTIVE) return CUDA_SUCCESS;
                         if (out.id) *out.id = s.capture->id;
                         if (out.graph) *out.graph = s.capture->handle;
                         if (out.after) *out.after = s.capture_tail.data();
                         if (out.count) *out.count = s.capture_tail.size();
                         return CUDA_SUCCESS;
                     });
}

CUresult update(CUstream handle, Default which, const CUgraphNode* after, size_t count, unsigned flags) {
    return on_stream("cuStreamUpdateCaptureDependencies", handle, which,
                     [&](Driver&, Context& c, Stream& s) -> CUresult {
                         std::lock_guard lock(c.order);
                         if (!s.capture)
                             return misuse(CUDA_ERROR_ILLEGAL_STATE, "the stream is not being captured");
                         if (flags == CU_STREAM_SET_CAPTURE_DEPENDENCIES) s.capture_tail.clear();
                         s.capture_tail.insert(s.capture_tail.end(), after, after + count);
                         return CUDA_SUCCESS;
                     });
}

}  // namespace

#define SIMCUDA_PAIR(name, params, ...)        \
    CUresult CUDAAPI name params {             \
        constexpr Default kWhich = kLegacy;    \
        return __VA_ARGS__;                    \
    }                                          \
    CUresult CUDAAPI name##_ptsz params {      \
        constexpr Default kWhich = kPerThread; \
        return __VA_ARGS__;                    \
    }

SIMCUDA_PAIR(cuStreamBeginCapture_v2, (CUstream s, CUstreamCaptureMode mode), begin(s, mode, kWhich))
SIMCUDA_PAIR(cuStreamEndCapture, (CUstream s, CUgraph* out), end(s, out, kWhich))
SIMCUDA_PAIR(cuStreamIsCapturing, (CUstream s, CUstreamCaptureStatus* out), info(s, kWhich, {out}))
SIMCUDA_PAIR(cuStreamGetCaptureInfo_v2,
             (CUstream s, CUstreamCaptureStatus* out, cuuint64_t* id, CUgraph* graph,
              const CUgraphNode** after, size_t* count),
             info(s, kWhich, {out, id, graph, after, count}))
SIMCUDA_PAIR(cuStreamGetCaptureInfo_v3,
             (CUstream s, CUstreamCaptureStatus* out, cuuint64_t* id, CUgraph* graph,
              const CUgraphNode** after, const CUgraphEdgeData** edges, size_t* count),
             (edges ? static_cast<void>(*edges = nullptr) : static_cast<void>(0),
              info(s, kWhich, {out, id, graph, after, count})))
SIMCUDA_PAIR(cuStreamUpdateCaptureDependencies,
             (CUstream s, CUgraphNode* after, size_t count, unsigned int flags),
             update(s, kWhich, after, count, flags))
SIMCUDA_PAIR(cuStreamUpdateCaptureDependencies_v2,
             (CUstream s, CUgraphNode* after, const CUgraphEdgeData*, size_t count, unsigned int flags),
             update(s, kWhich, after, count, flags))

// Calls that a mode would forbid during a capture are not refused here: the mode is kept and given back.
CUresult CUDAAPI cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode* mode) {
    return entry("cuThreadExchangeStreamCaptureMode",
                 [&](Driver&) { return std::swap(*mode, thread_mode), CUDA_SUCCESS; });
}
