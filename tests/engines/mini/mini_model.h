// mini_model.h - the weights of the mini engine: a safetensors file that it can write, open, and compute with on the host.
//
// Owns:    a read-only mapping of the file. Callers: one thread. Fails: with a line on stderr and exit status 1: this is
//          part of small test programs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace mini {

constexpr uint32_t kTokens = 64;  // rows of the embedding

struct Tensor {
    std::string name;
    size_t offset_bytes = 0;  // in the file
    size_t size_bytes = 0;
};

struct Model {
    uint32_t width = 0;
    std::vector<Tensor> tensors;  // in the order of the file: embedding, then norm and weights of each layer
    const char* file = nullptr;   // the whole file, mapped privately and read-only
    size_t file_bytes = 0;
    int fd = -1;

    size_t layers() const { return (tensors.size() - 1) / 2; }
    const Tensor& embedding() const { return tensors[0]; }
    const Tensor& norm(size_t layer) const { return tensors[1 + 2 * layer]; }
    const Tensor& weights(size_t layer) const { return tensors[2 + 2 * layer]; }
};

void write_model(const std::string& path, size_t layers, uint32_t width, uint64_t seed);
Model open_model(const std::string& path);

// What a run of layers [first, last) with this token gives. `keep` is added up as mini_keep leaves it.
struct Request {
    size_t first = 0, last = 0;
    uint32_t token = 1;
};
uint64_t reference(const Model& model, const Request& request);
uint64_t checksum(const uint32_t* words, size_t count, uint64_t start = 14695981039346656037ull);

// What the programs have in common: their command line.
struct Options {
    std::string model;
    std::string load = "pytorch";  // pytorch, llama, llama-mmap
    bool graph = false;            // layers as a captured graph, launched again and again
    bool pool = false;             // cuMemAllocAsync instead of cuMemAlloc
    bool managed = false;          // cuMemAllocManaged, with a prefetch before each layer
    bool serve = false;            // requests from standard input: FIRST LAST TOKEN
    bool reference = false;        // on the host, without CUDA
    size_t make_layers = 0;        // write the model first
    uint32_t make_width = 0;
    int repeat = 1;
    std::string ptx;  // for the driver program
};
Options parse(int argc, char** argv);

// Runs the requests that the options ask for: `run` gives a checksum. Prints "checksum HEX ns N" for each.
template <class Run>
int serve(const Options& options, const Model& model, Run run);

void print_result(uint64_t checksum, uint64_t ns);
bool next_request(const Model& model, Request* request);  // of standard input
uint64_t now_ns();

template <class Run>
int serve(const Options& options, const Model& model, Run run) {
    auto one = [&](const Request& request) {
        uint64_t start_ns = now_ns();
        uint64_t sum = run(request);
        print_result(sum, now_ns() - start_ns);
    };
    Request request;
    if (options.serve) {
        while (next_request(model, &request)) one(request);
        return 0;
    }
    for (int i = 0; i < options.repeat; ++i)
        one({0, model.layers(), 1 + static_cast<uint32_t>(i) % (kTokens - 1)});
    return 0;
}

}  // namespace mini
