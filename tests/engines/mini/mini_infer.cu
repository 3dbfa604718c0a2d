// mini_infer.cu - a very small inference engine on the CUDA runtime, which loads its weights in the ways of bigger ones.
//
//   --load pytorch     the file mapped, device memory in segments that tensors and activations share, one copy a tensor
//   --load llama       the file read piece by piece into four pinned buffers, each copied on the engine's own stream
//   --load llama-mmap  one device buffer for all weights, copies straight from the mapped file on the thread's stream
// Prints a checksum of the output, which is the same on every machine and equals that of --reference.
#include <cuda_runtime.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "mini_kernels.h"
#include "mini_model.h"

namespace {

using mini::Model;
using mini::Request;
using mini::Tensor;

void ok(cudaError_t error, const char* what) {
    if (error == cudaSuccess) return;
    std::fprintf(stderr, "mini_infer: %s: %s\n", what, cudaGetErrorString(error));
    std::exit(error == cudaErrorMemoryAllocation ? 2 : 1);  // 2: the tests tell a full GPU from the rest
}
#define OK(call) ok(call, #call)

constexpr size_t kSegmentBytes = 20 << 20;  // PyTorch's, for tensors of 1 to 10 MiB
constexpr size_t kAlignBytes = 512;

// A caching allocator as PyTorch's: segments from the driver, cut into blocks, never given back.
class Segments {
  public:
    explicit Segments(const mini::Options& options) : pool_(options.pool), managed_(options.managed) {}

    char* take(size_t bytes) {
        bytes = (bytes + kAlignBytes - 1) / kAlignBytes * kAlignBytes;
        if (bytes > left_) {
            left_ = bytes > kSegmentBytes / 2 ? (bytes + (2 << 20) - 1) >> 21 << 21 : kSegmentBytes;
            next_ = segment(left_);
        }
        char* at = next_;
        next_ += bytes;
        left_ -= bytes;
        return at;
    }

  private:
    char* segment(size_t bytes) {
        void* at = nullptr;
        if (pool_)
            OK(cudaMallocAsync(&at, bytes, cudaStream_t(0)));
        else if (managed_)
            OK(cudaMallocManaged(&at, bytes, cudaMemAttachGlobal));
        else
            OK(cudaMalloc(&at, bytes));
        return static_cast<char*>(at);
    }
    const bool pool_, managed_;
    char* next_ = nullptr;
    size_t left_ = 0;
};

struct Weights {
    std::vector<char*> tensors;  // in the order of the model's
};

Weights load_as_pytorch(const Model& model, Segments& segments) {
    Weights weights;
    for (const Tensor& t : model.tensors) {
        char* at = segments.take(t.size_bytes);
        OK(cudaMemcpyAsync(at, model.file + t.offset_bytes, t.size_bytes, cudaMemcpyHostToDevice,
                           cudaStream_t(0)));
        OK(cudaStreamSynchronize(cudaStream_t(0)));
        weights.tensors.push_back(at);
    }
    return weights;
}

// One buffer for all weights; each tensor starts at a multiple of 128 bytes.
Weights place_as_llama(const Model& model, Segments& segments) {
    std::vector<size_t> offsets;
    size_t bytes = 0;
    for (const Tensor& t : model.tensors) {
        offsets.push_back(bytes);
        bytes += (t.size_bytes + 127) / 128 * 128;
    }
    char* base = segments.take(bytes);
    Weights weights;
    for (size_t offset : offsets) weights.tensors.push_back(base + offset);
    return weights;
}

Weights load_as_llama(const Model& model, Segments& segments) {
    constexpr size_t kBuffers = 4, kBufferBytes = 1 << 20;
    Weights weights = place_as_llama(model, segments);
    char* buffers[kBuffers];
    cudaEvent_t used[kBuffers];
    cudaStream_t stream;
    OK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    for (size_t i = 0; i < kBuffers; ++i) {
        OK(cudaMallocHost(reinterpret_cast<void**>(&buffers[i]), kBufferBytes));
        OK(cudaEventCreateWithFlags(&used[i], cudaEventDisableTiming));
    }
    size_t turn = 0;
    for (size_t t = 0; t < model.tensors.size(); ++t) {
        const Tensor& tensor = model.tensors[t];
        for (size_t done = 0; done < tensor.size_bytes;) {
            size_t piece = std::min(kBufferBytes, tensor.size_bytes - done);
            OK(cudaEventSynchronize(used[turn]));
            ssize_t got =
                ::pread(model.fd, buffers[turn], piece, static_cast<off_t>(tensor.offset_bytes + done));
            if (got <= 0) ok(cudaErrorFileNotFound, "read the model");
            OK(cudaMemcpyAsync(weights.tensors[t] + done, buffers[turn], static_cast<size_t>(got),
                               cudaMemcpyHostToDevice, stream));
            OK(cudaEventRecord(used[turn], stream));
            done += static_cast<size_t>(got);
            turn = (turn + 1) % kBuffers;
        }
    }
    OK(cudaStreamSynchronize(stream));
    for (size_t i = 0; i < kBuffers; ++i) {
        OK(cudaEventDestroy(used[i]));
        OK(cudaFreeHost(buffers[i]));
    }
    OK(cudaStreamDestroy(stream));
    return weights;
}

Weights load_as_llama_mmap(const Model& model, Segments& segments) {
    Weights weights = place_as_llama(model, segments);
    for (size_t t = 0; t < model.tensors.size(); ++t) {
        const Tensor& tensor = model.tensors[t];
        OK(cudaMemcpyAsync(weights.tensors[t], model.file + tensor.offset_bytes, tensor.size_bytes,
                           cudaMemcpyHostToDevice, cudaStreamPerThread));
        OK(cudaStreamSynchronize(cudaStreamPerThread));
    }
    return weights;
}

Weights load(const mini::Options& options, const Model& model, Segments& segments) {
    if (options.load == "pytorch") return load_as_pytorch(model, segments);
    if (options.load == "llama") return load_as_llama(model, segments);
    if (options.load == "llama-mmap") return load_as_llama_mmap(model, segments);
    ok(cudaErrorInvalidValue, "--load");
    return {};
}

class Engine {
  public:
    Engine(const mini::Options& options, const Model& model)
        : options_(options), model_(model), segments_(options), weights_(load(options, model, segments_)) {
        size_t row = size_t{model.width} * 4;
        x_ = words(segments_.take(row));
        y_ = words(segments_.take(row));
        cache_ = words(segments_.take(row * model.layers()));
        OK(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
        OK(cudaDeviceSynchronize());
    }

    uint64_t run(const Request& request) {
        if (options_.graph)
            run_graph(request);
        else
            launch(request);
        size_t n = model_.width, kept = n * (request.last - request.first);
        std::vector<uint32_t> out(n), cache(kept);
        const uint32_t* result = (request.last - request.first) % 2 ? y_ : x_;
        OK(cudaMemcpyAsync(out.data(), result, n * 4, cudaMemcpyDeviceToHost, stream_));
        if (kept) OK(cudaMemcpyAsync(cache.data(), cache_, kept * 4, cudaMemcpyDeviceToHost, stream_));
        OK(cudaStreamSynchronize(stream_));
        return mini::checksum(cache.data(), kept, mini::checksum(out.data(), n));
    }

  private:
    static uint32_t* words(char* at) { return reinterpret_cast<uint32_t*>(at); }

    void launch(const Request& request) {
        constexpr unsigned kBlock = 128;
        unsigned blocks = (model_.width + kBlock - 1) / kBlock;
        mini_embed<<<blocks, kBlock, 0, stream_>>>(words(weights_.tensors[0]), request.token, x_,
                                                   model_.width);
        uint32_t *from = x_, *to = y_;
        for (size_t layer = request.first; layer < request.last; ++layer) {
            const uint32_t *norm = words(weights_.tensors[1 + 2 * layer]),
                           *w = words(weights_.tensors[2 + 2 * layer]);
            prefetch(w, model_.weights(layer).size_bytes);
            mini_layer<<<blocks, kBlock, 0, stream_>>>(w, norm, from, to, model_.width);
            mini_keep<<<blocks, kBlock, 0, stream_>>>(
                to, cache_, static_cast<uint32_t>(layer - request.first), model_.width);
            std::swap(from, to);
        }
        OK(cudaGetLastError());
    }

    void prefetch(const void* at, size_t bytes) {
        if (!options_.managed) return;
        cudaMemLocation gpu = {};
        gpu.type = cudaMemLocationTypeDevice;
        OK(cudaMemPrefetchAsync(at, bytes, gpu, 0, stream_));
    }

    // The same request again is the same graph: recorded once, launched from then on.
    void run_graph(const Request& request) {
        bool same = exec_ && request.first == recorded_.first && request.last == recorded_.last &&
                    request.token == recorded_.token;
        if (!same) {
            if (exec_) OK(cudaGraphExecDestroy(exec_));
            cudaGraph_t graph = nullptr;
            OK(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal));
            launch(request);
            OK(cudaStreamEndCapture(stream_, &graph));
            OK(cudaGraphInstantiate(&exec_, graph, 0));
            OK(cudaGraphDestroy(graph));
            recorded_ = request;
        }
        OK(cudaGraphLaunch(exec_, stream_));
    }

    const mini::Options& options_;
    const Model& model_;
    Segments segments_;
    Weights weights_;
    uint32_t *x_ = nullptr, *y_ = nullptr, *cache_ = nullptr;
    cudaStream_t stream_ = nullptr;
    cudaGraphExec_t exec_ = nullptr;
    Request recorded_;
};

}  // namespace

int main(int argc, char** argv) {
    mini::Options options = mini::parse(argc, argv);
    Model model = mini::open_model(options.model);
    if (options.reference)
        return mini::serve(options, model, [&](const Request& r) { return mini::reference(model, r); });
    uint64_t start_ns = mini::now_ns();
    Engine engine(options, model);
    std::printf("loaded ns %llu\n", static_cast<unsigned long long>(mini::now_ns() - start_ns));
    std::fflush(stdout);
    return mini::serve(options, model, [&](const Request& r) { return engine.run(r); });
}
