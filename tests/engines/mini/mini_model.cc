#include "tests/engines/mini/mini_model.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <nlohmann/json.hpp>

namespace mini {
namespace {

[[noreturn]] void die(const std::string& why) {
    std::fprintf(stderr, "mini: %s\n", why.c_str());
    std::exit(1);
}

uint64_t next_random(uint64_t* state) {
    uint64_t z = (*state += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    return z ^ (z >> 27);
}

void put(std::FILE* file, const void* bytes, size_t count) {
    if (std::fwrite(bytes, 1, count, file) != count) die("the model can't be written");
}

// ordered_json keeps the order of the file.
void declare(nlohmann::ordered_json& header, const std::string& name, std::vector<uint64_t> shape,
             uint64_t* at) {
    uint64_t bytes = 4;
    for (uint64_t n : shape) bytes *= n;
    header[name] = {{"dtype", "I32"}, {"shape", shape}, {"data_offsets", {*at, *at + bytes}}};
    *at += bytes;
}

std::string layer_name(size_t layer, const char* part) {
    return "model.layers." + std::to_string(layer) + "." + part + ".weight";
}

uint64_t number_of(const char* text) {
    char* end = nullptr;
    uint64_t value = std::strtoull(text, &end, 10);
    if (*end || end == text) die(std::string("not a number: ") + text);
    return value;
}

}  // namespace

void write_model(const std::string& path, size_t layers, uint32_t width, uint64_t seed) {
    nlohmann::ordered_json header;
    uint64_t bytes = 0;
    declare(header, "model.embed_tokens", {kTokens, width}, &bytes);
    for (size_t i = 0; i < layers; ++i) {
        declare(header, layer_name(i, "input_layernorm"), {width}, &bytes);
        declare(header, layer_name(i, "mlp.up_proj"), {width, width}, &bytes);
    }
    std::string text = header.dump();
    while (text.size() % 8) text += ' ';
    std::FILE* file = std::fopen(path.c_str(), "wb");
    if (!file) die("can't write " + path);
    uint64_t length = text.size();
    put(file, &length, sizeof length);
    put(file, text.data(), text.size());
    std::vector<uint64_t> block(8192);
    for (uint64_t done = 0; done < bytes; done += block.size() * 8) {
        for (uint64_t& word : block) word = next_random(&seed);
        put(file, block.data(), std::min<uint64_t>(block.size() * 8, bytes - done));
    }
    if (std::fclose(file) != 0) die("can't write " + path);
}

Model open_model(const std::string& path) {
    Model model;
    model.fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    struct stat info = {};
    if (model.fd < 0 || ::fstat(model.fd, &info) < 0) die("can't open " + path);
    model.file_bytes = static_cast<size_t>(info.st_size);
    void* at = ::mmap(nullptr, model.file_bytes, PROT_READ, MAP_PRIVATE, model.fd, 0);
    if (at == MAP_FAILED) die("can't map " + path);
    model.file = static_cast<const char*>(at);
    uint64_t length = 0;
    std::memcpy(&length, model.file, sizeof length);
    auto header = nlohmann::ordered_json::parse(model.file + 8, model.file + 8 + length);
    for (const auto& [name, tensor] : header.items()) {
        uint64_t first = tensor["data_offsets"][0], last = tensor["data_offsets"][1];
        model.tensors.push_back({name, 8 + length + first, last - first});
    }
    if (model.tensors.size() < 3) die(path + " has no layers");
    model.width = static_cast<uint32_t>(model.tensors[1].size_bytes / 4);
    return model;
}

uint64_t checksum(const uint32_t* words, size_t count, uint64_t start) {
    uint64_t sum = start;
    for (size_t i = 0; i < count; ++i) sum = (sum ^ words[i]) * 1099511628211ull;
    return sum;
}

uint64_t reference(const Model& model, const Request& request) {
    size_t n = model.width;
    auto words = [&](const Tensor& t) {
        return reinterpret_cast<const uint32_t*>(model.file + t.offset_bytes);
    };
    std::vector<uint32_t> x(n), y(n), kept(n * (request.last - request.first));
    std::memcpy(x.data(), words(model.embedding()) + n * request.token, n * 4);
    for (size_t layer = request.first; layer < request.last; ++layer) {
        const uint32_t *w = words(model.weights(layer)), *norm = words(model.norm(layer));
        for (size_t row = 0; row < n; ++row) {
            uint32_t sum = norm[row];
            for (size_t i = 0; i < n; ++i) sum += w[row * n + i] * x[i];
            y[row] = (sum ^ (sum >> 15)) * 0x2c1b3c6du;
        }
        uint32_t position = static_cast<uint32_t>(layer - request.first);
        for (size_t i = 0; i < n; ++i) kept[position * n + i] = y[i] + position;
        std::swap(x, y);
    }
    return checksum(kept.data(), kept.size(), checksum(x.data(), n));
}

Options parse(int argc, char** argv) {
    Options o;
    for (int i = 1; i < argc; ++i) {
        std::string word = argv[i];
        auto value = [&] { return i + 1 < argc ? argv[++i] : (die(word + " needs a value"), nullptr); };
        if (word == "--load")
            o.load = value();
        else if (word == "--graph")
            o.graph = true;
        else if (word == "--pool")
            o.pool = true;
        else if (word == "--managed")
            o.managed = true;
        else if (word == "--serve")
            o.serve = true;
        else if (word == "--reference")
            o.reference = true;
        else if (word == "--repeat")
            o.repeat = static_cast<int>(number_of(value()));
        else if (word == "--make-layers")
            o.make_layers = number_of(value());
        else if (word == "--make-width")
            o.make_width = static_cast<uint32_t>(number_of(value()));
        else if (word == "--ptx")
            o.ptx = value();
        else if (word[0] != '-' && o.model.empty())
            o.model = word;
        else
            die("unknown option: " + word);
    }
    if (o.model.empty())
        die("usage: MODEL.safetensors [--load pytorch|llama|llama-mmap] [--graph] [--pool] ...");
    if (o.make_layers) write_model(o.model, o.make_layers, o.make_width, 1);
    return o;
}

void print_result(uint64_t sum, uint64_t ns) {
    std::printf("checksum %016llx ns %llu\n", static_cast<unsigned long long>(sum),
                static_cast<unsigned long long>(ns));
    std::fflush(stdout);
}

bool next_request(const Model& model, Request* request) {
    unsigned long long first = 0, last = 0, token = 0;
    if (std::scanf("%llu %llu %llu", &first, &last, &token) != 3) return false;
    if (first > last || last > model.layers() || token >= kTokens) die("a request beyond the model");
    *request = {first, last, static_cast<uint32_t>(token)};
    return true;
}

uint64_t now_ns() {
    timespec t = {};
    ::clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<uint64_t>(t.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(t.tv_nsec);
}

}  // namespace mini
