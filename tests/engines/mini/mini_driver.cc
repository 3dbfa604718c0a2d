// mini_driver.cc - the mini engine on the plain driver API: its own context, kernels from PTX, one allocation a tensor.
//
// Weights arrive by synchronous copies from the mapped file; with --graph the layers are a graph built node by node; with
// --pool memory comes from cuMemAllocAsync. Prints the same checksum as mini_infer.
#include <cuda.h>

#include <cstdio>
#include <cstdlib>
#include <vector>

#include "tests/engines/mini/mini_model.h"

namespace {

using mini::Model;
using mini::Request;
using mini::Tensor;

void ok(CUresult result, const char* what) {
    if (result == CUDA_SUCCESS) return;
    const char* text = nullptr;
    cuGetErrorString(result, &text);
    std::fprintf(stderr, "mini_driver: %s: %s\n", what, text ? text : "unknown error");
    std::exit(result == CUDA_ERROR_OUT_OF_MEMORY ? 2 : 1);
}
#define OK(call) ok(call, #call)

struct Launch {
    CUfunction function;
    std::vector<void*> params;  // point into what outlives the launch call
};

class Engine {
  public:
    Engine(const mini::Options& options, const Model& model) : options_(options), model_(model) {
        OK(cuInit(0));
        OK(cuDevicePrimaryCtxRetain(&context_, 0));
        OK(cuCtxPushCurrent(context_));
        OK(cuStreamCreate(&stream_, CU_STREAM_NON_BLOCKING));
        OK(cuModuleLoad(&module_, options.ptx.c_str()));
        OK(cuModuleGetFunction(&embed_, module_, "mini_embed"));
        OK(cuModuleGetFunction(&layer_, module_, "mini_layer"));
        OK(cuModuleGetFunction(&keep_, module_, "mini_keep"));
        for (const Tensor& t : model.tensors) {
            CUdeviceptr at = allocate(t.size_bytes);
            OK(cuMemcpyHtoD(at, model.file + t.offset_bytes, t.size_bytes));
            weights_.push_back(at);
        }
        size_t row = size_t{model.width} * 4;
        x_ = allocate(row);
        y_ = allocate(row);
        cache_ = allocate(row * model.layers());
    }

    uint64_t run(const Request& request) {
        if (options_.graph)
            run_graph(request);
        else
            each_launch(request, [&](Launch l) { start(l); });
        OK(cuStreamSynchronize(stream_));
        size_t n = model_.width, kept = n * (request.last - request.first);
        std::vector<uint32_t> out(n), cache(kept);
        OK(cuMemcpyDtoH(out.data(), (request.last - request.first) % 2 ? y_ : x_, n * 4));
        if (kept) OK(cuMemcpyDtoH(cache.data(), cache_, kept * 4));
        return mini::checksum(cache.data(), kept, mini::checksum(out.data(), n));
    }

  private:
    CUdeviceptr allocate(size_t bytes) {
        CUdeviceptr at = 0;
        if (options_.pool)
            OK(cuMemAllocAsync(&at, bytes, stream_));
        else
            OK(cuMemAlloc(&at, bytes));
        if (options_.pool) OK(cuStreamSynchronize(stream_));
        return at;
    }

    unsigned blocks() const { return (model_.width + kBlock - 1) / kBlock; }

    void start(Launch& l) {
        OK(cuLaunchKernel(l.function, blocks(), 1, 1, kBlock, 1, 1, 0, stream_, l.params.data(), nullptr));
    }

    template <class Do>
    void each_launch(const Request& request, Do each) {
        uint32_t token = request.token, width = model_.width;
        each(Launch{embed_, {&weights_[0], &token, &x_, &width}});
        CUdeviceptr from = x_, to = y_;
        for (size_t i = request.first; i < request.last; ++i) {
            each(Launch{layer_, {&weights_[2 + 2 * i], &weights_[1 + 2 * i], &from, &to, &width}});
            auto position = static_cast<uint32_t>(i - request.first);
            each(Launch{keep_, {&to, &cache_, &position, &width}});
            std::swap(from, to);
        }
    }

    void run_graph(const Request& request) {
        CUgraph graph = nullptr;
        CUgraphExec exec = nullptr;
        CUgraphNode last = nullptr;
        OK(cuGraphCreate(&graph, 0));
        each_launch(request, [&](Launch l) {
            CUDA_KERNEL_NODE_PARAMS p = {};
            p.func = l.function;
            p.gridDimX = blocks();
            p.gridDimY = p.gridDimZ = p.blockDimY = p.blockDimZ = 1;
            p.blockDimX = kBlock;
            p.kernelParams = l.params.data();
            CUgraphNode node = nullptr;
            OK(cuGraphAddKernelNode(&node, graph, &last, last ? 1 : 0, &p));
            last = node;
        });
        OK(cuGraphInstantiate(&exec, graph, 0));
        OK(cuGraphLaunch(exec, stream_));
        OK(cuStreamSynchronize(stream_));
        OK(cuGraphExecDestroy(exec));
        OK(cuGraphDestroy(graph));
    }

    static constexpr unsigned kBlock = 128;
    const mini::Options& options_;
    const Model& model_;
    CUcontext context_ = nullptr;
    CUstream stream_ = nullptr;
    CUmodule module_ = nullptr;
    CUfunction embed_ = nullptr, layer_ = nullptr, keep_ = nullptr;
    std::vector<CUdeviceptr> weights_;
    CUdeviceptr x_ = 0, y_ = 0, cache_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
    mini::Options options = mini::parse(argc, argv);
    Model model = mini::open_model(options.model);
    uint64_t start_ns = mini::now_ns();
    Engine engine(options, model);
    std::printf("loaded ns %llu\n", static_cast<unsigned long long>(mini::now_ns() - start_ns));
    std::fflush(stdout);
    return mini::serve(options, model, [&](const Request& r) { return engine.run(r); });
}
