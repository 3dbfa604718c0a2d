// threads.cc - several threads that launch on streams of their own, from weights that all share into buffers of their own,
// and read what came out. A driver-API program: it knows nothing of the preloaded library.
//
//   threads COUNT ROUNDS WEIGHTS BYTES   BYTES of the file are shared; each thread has a buffer of as many
//
// Prints the first wrong byte; exit status 1.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include "tests/cuda/driver_call.h"

namespace {

struct Plan {
    CUcontext context = nullptr;
    CUfunction scramble = nullptr;
    CUdeviceptr weights = 0;
    const uint8_t* bytes = nullptr;  // of the weights
    uint64_t length = 0;
    unsigned rounds = 0;
};

std::atomic<bool> all_right{true};

void work(const Plan& plan, unsigned number) {
    CUstream stream = nullptr;
    CUdeviceptr buffer = 0;
    std::vector<uint8_t> seen(plan.length);
    OK(cuCtxSetCurrent(plan.context));
    OK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    OK(cuMemAlloc_v2(&buffer, plan.length));
    for (unsigned round = 0; round < plan.rounds && all_right; round++) {
        unsigned char salt = static_cast<unsigned char>(number * 16 + round);
        CUdeviceptr from = plan.weights;
        uint64_t count = plan.length;
        void* parameters[] = {&from, &buffer, &count, &salt};
        OK(cuLaunchKernel(plan.scramble, 1, 1, 1, 1, 1, 1, 0, stream, parameters, nullptr));
        // Both ways to read: ordered by the stream, and the default stream's, which does not wait for this one.
        if (round % 2 == 0) {
            OK(cuMemcpyDtoHAsync_v2(seen.data(), buffer, count, stream));
            OK(cuStreamSynchronize(stream));
        } else {
            OK(cuStreamSynchronize(stream));
            OK(cuMemcpyDtoH_v2(seen.data(), buffer, count));
        }
        for (uint64_t i = 0; i < count; i++) {
            auto expected = static_cast<uint8_t>(plan.bytes[i] * 31 + salt);
            if (seen[i] == expected) continue;
            std::printf("thread %u, round %u: byte %llu is %d, not %d\n", number, round,
                        static_cast<unsigned long long>(i), seen[i], expected);
            all_right = false;
            break;
        }
    }
    OK(cuMemFree_v2(buffer));
    OK(cuStreamDestroy_v2(stream));
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 5) return 2;
    unsigned threads = static_cast<unsigned>(std::atoi(argv[1]));
    Plan plan;
    plan.rounds = static_cast<unsigned>(std::atoi(argv[2]));
    plan.length = std::strtoull(argv[4], nullptr, 10);
    int fd = ::open(argv[3], O_RDONLY | O_CLOEXEC);
    void* mapped = ::mmap(nullptr, plan.length, PROT_READ, MAP_PRIVATE, fd, 0);
    if (mapped == MAP_FAILED) return 2;
    plan.bytes = static_cast<const uint8_t*>(mapped);
    CUmodule module = nullptr;
    OK(cuInit(0));
    OK(cuDevicePrimaryCtxRetain(&plan.context, 0));
    OK(cuCtxSetCurrent(plan.context));
    OK(cuModuleLoad(&module, std::getenv("TEST_KERNELS")));
    OK(cuModuleGetFunction(&plan.scramble, module, "scramble"));
    OK(cuMemAlloc_v2(&plan.weights, plan.length));
    OK(cuMemcpyHtoD_v2(plan.weights, plan.bytes, plan.length));
    std::vector<std::thread> workers;
    for (unsigned i = 0; i < threads; i++) workers.emplace_back(work, std::cref(plan), i);
    for (std::thread& worker : workers) worker.join();
    OK(cuMemFree_v2(plan.weights));
    if (!all_right) return 1;
    std::printf("%u threads, %u rounds each: every byte as expected\n", threads, plan.rounds);
    return 0;
}
