// api_stream.cc - the runtime double: streams, events, host functions and graphs.
#include "tests/simcuda/runtime/call.h"

using namespace simcudart;

#define SIMCUDART_PAIR(name, params, ...)                                      \
    extern "C" cudaError_t name params {                                       \
        return run_on(false, [&](const DriverApi& d) { return __VA_ARGS__; }); \
    }                                                                          \
    extern "C" cudaError_t name##_ptsz params {                                \
        return run_on(true, [&](const DriverApi& d) { return __VA_ARGS__; });  \
    }

SIMCUDART_PAIR(cudaStreamSynchronize, (cudaStream_t s), d.cuStreamSynchronize(s))
SIMCUDART_PAIR(cudaStreamQuery, (cudaStream_t s), d.cuStreamQuery(s))
SIMCUDART_PAIR(cudaStreamWaitEvent, (cudaStream_t s, cudaEvent_t e, unsigned flags),
               d.cuStreamWaitEvent(s, e, flags))
SIMCUDART_PAIR(cudaStreamGetFlags, (cudaStream_t s, unsigned* flags), d.cuStreamGetFlags(s, flags))
SIMCUDART_PAIR(cudaStreamGetPriority, (cudaStream_t s, int* priority), d.cuStreamGetPriority(s, priority))
SIMCUDART_PAIR(cudaEventRecord, (cudaEvent_t e, cudaStream_t s), d.cuEventRecord(e, s))
SIMCUDART_PAIR(cudaLaunchHostFunc, (cudaStream_t s, cudaHostFn_t f, void* data),
               d.cuLaunchHostFunc(s, f, data))
SIMCUDART_PAIR(cudaStreamBeginCapture, (cudaStream_t s, cudaStreamCaptureMode mode),
               d.cuStreamBeginCapture(s, static_cast<CUstreamCaptureMode>(mode)))
SIMCUDART_PAIR(cudaStreamEndCapture, (cudaStream_t s, cudaGraph_t* out), d.cuStreamEndCapture(s, out))
SIMCUDART_PAIR(cudaStreamIsCapturing, (cudaStream_t s, cudaStreamCaptureStatus* out),
               d.cuStreamIsCapturing(s, reinterpret_cast<CUstreamCaptureStatus*>(out)))
SIMCUDART_PAIR(cudaGraphLaunch, (cudaGraphExec_t exec, cudaStream_t s), d.cuGraphLaunch(exec, s))
SIMCUDART_PAIR(cudaGraphUpload, (cudaGraphExec_t exec, cudaStream_t s), d.cuGraphUpload(exec, s))

namespace {

struct Callback {
    cudaStreamCallback_t function;
    void* data;
};

void call_back(CUstream stream, CUresult result, void* data) {
    Callback callback = *static_cast<Callback*>(data);
    delete static_cast<Callback*>(data);
    callback.function(stream, static_cast<cudaError_t>(result), callback.data);
}

}  // namespace

extern "C" {

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* out, unsigned flags, int priority) {
    return run(
        [&](Runtime&, const DriverApi& d) { return d.cuStreamCreateWithPriority(out, flags, priority); });
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* out, unsigned flags) {
    return cudaStreamCreateWithPriority(out, flags, 0);
}
cudaError_t cudaStreamCreate(cudaStream_t* out) {
    return cudaStreamCreateWithPriority(out, cudaStreamDefault, 0);
}
cudaError_t cudaStreamDestroy(cudaStream_t s) {
    return run([&](Runtime&, const DriverApi& d) { return d.cuStreamDestroy(s); });
}
cudaError_t cudaStreamAddCallback(cudaStream_t s, cudaStreamCallback_t f, void* data, unsigned flags) {
    return run([&](Runtime&, const DriverApi& d) {
        auto* callback = new Callback{f, data};
        CUresult result = d.cuStreamAddCallback(s, call_back, callback, flags);
        if (result != CUDA_SUCCESS) delete callback;
        return result;
    });
}
cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
    return run_bare([&](Runtime&, const DriverApi& d) {
        return d.cuThreadExchangeStreamCaptureMode(reinterpret_cast<CUstreamCaptureMode*>(mode));
    });
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* out, unsigned flags) {
    return run([&](Runtime&, const DriverApi& d) { return d.cuEventCreate(out, flags); });
}
cudaError_t cudaEventCreate(cudaEvent_t* out) {
    return cudaEventCreateWithFlags(out, cudaEventDefault);
}
cudaError_t cudaEventDestroy(cudaEvent_t e) {
    return run([&](Runtime&, const DriverApi& d) { return d.cuEventDestroy(e); });
}
cudaError_t cudaEventQuery(cudaEvent_t e) {
    return run([&](Runtime&, const DriverApi& d) { return d.cuEventQuery(e); });
}
cudaError_t cudaEventSynchronize(cudaEvent_t e) {
    return run([&](Runtime&, const DriverApi& d) { return d.cuEventSynchronize(e); });
}
cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t start, cudaEvent_t end) {
    return run([&](Runtime&, const DriverApi& d) { return d.cuEventElapsedTime(ms, start, end); });
}

cudaError_t cudaGraphCreate(cudaGraph_t* out, unsigned flags) {
    return run([&](Runtime&, const DriverApi& d) { return d.cuGraphCreate(out, flags); });
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    return run([&](Runtime&, const DriverApi& d) { return d.cuGraphDestroy(graph); });
}
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* out, size_t* count) {
    return run([&](Runtime&, const DriverApi& d) { return d.cuGraphGetNodes(graph, out, count); });
}
cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* out, cudaGraph_t graph, unsigned long long flags) {
    return run(
        [&](Runtime&, const DriverApi& d) { return d.cuGraphInstantiateWithFlags(out, graph, flags); });
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* out, cudaGraph_t graph, unsigned long long flags) {
    return cudaGraphInstantiateWithFlags(out, graph, flags);
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
    return run([&](Runtime&, const DriverApi& d) { return d.cuGraphExecDestroy(exec); });
}
cudaError_t cudaGraphExecUpdate(cudaGraphExec_t exec, cudaGraph_t graph,
                                cudaGraphExecUpdateResultInfo* info) {
    return run([&](Runtime&, const DriverApi& d) {
        CUgraphExecUpdateResultInfo answer = {};
        CUresult result = d.cuGraphExecUpdate(exec, graph, &answer);
        *info = {};
        info->result = static_cast<cudaGraphExecUpdateResult>(answer.result);
        return result;
    });
}

}  // extern "C"
