// launch_times.cc - what the preloaded library adds to cuLaunchKernel when everything is resident, over a driver that does
// nothing. Preload libtierd_shim.so, with TIERD_GPU_LIMIT set so that it needs no daemon.
//
//   launch_times                 {"ours": [ns a launch ...], "direct": [...]}, batches in turn
//   launch_times ours|direct N   N launches and nothing printed: for counting instructions
#include <cuda.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <vector>

extern "C" CUresult noop_launch(CUfunction, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,
                                unsigned, CUstream, void**, void**);
extern "C" uint64_t noop_creates();

namespace {

CUdeviceptr memory = 0;
int a_function;

uint64_t now_ns() {
    timespec t = {};
    ::clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<uint64_t>(t.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(t.tv_nsec);
}

template <class Launch>
bool launch_often(Launch launch, long count) {
    void* parameters[] = {&memory};
    auto function = reinterpret_cast<CUfunction>(&a_function);
    bool well = true;
    for (long i = 0; i < count; i++)
        well &= launch(function, 1, 1, 1, 32, 1, 1, 0, nullptr, parameters, nullptr) == CUDA_SUCCESS;
    return well;
}

template <class Launch>
double ns_each(Launch launch, long count) {
    uint64_t begin = now_ns();
    if (!launch_often(launch, count)) std::exit(1);
    return static_cast<double>(now_ns() - begin) / static_cast<double>(count);
}

void print(const char* name, const std::vector<double>& values) {
    std::printf("\"%s\": [", name);
    for (size_t i = 0; i < values.size(); i++) std::printf("%s%.3f", i > 0 ? ", " : "", values[i]);
    std::printf("]");
}

}  // namespace

int main(int argc, char** argv) {
    constexpr size_t kBytes = 64u << 20;
    constexpr long kBatch = 200'000;
    constexpr int kBatches = 31;
    if (cuMemAlloc(&memory, kBytes) != CUDA_SUCCESS || !launch_often(cuLaunchKernel, 10)) return 1;
    if (noop_creates() != kBytes / (2u << 20)) {
        std::fprintf(stderr, "launch_times: the memory is not elastic: %llu chunks were brought\n",
                     static_cast<unsigned long long>(noop_creates()));
        return 1;
    }
    if (argc == 3) {
        long count = std::strtol(argv[2], nullptr, 10);
        bool ours = std::strcmp(argv[1], "ours") == 0;
        return (ours ? launch_often(cuLaunchKernel, count) : launch_often(noop_launch, count)) ? 0 : 1;
    }
    std::vector<double> ours, direct;
    for (int i = 0; i < kBatches; i++) {
        ours.push_back(ns_each(cuLaunchKernel, kBatch));
        direct.push_back(ns_each(noop_launch, kBatch));
    }
    std::printf("{");
    print("ours", ours);
    std::printf(", ");
    print("direct", direct);
    std::printf("}\n");
    return 0;
}
