// shared_gpu_worker.cc - a process that takes memory of a shared GPU when it is told to: "take BYTES", "free", "info".
#include <cuda.h>

#include <cstdio>
#include <cstring>

int main() {
    CUcontext context = nullptr;
    CUdeviceptr at = 0;
    if (cuInit(0) || cuDevicePrimaryCtxRetain(&context, 0) || cuCtxSetCurrent(context)) return 1;
    std::puts("ready");
    std::fflush(stdout);
    char verb[16];
    unsigned long long bytes = 0;
    while (std::scanf("%15s", verb) == 1) {
        if (std::strcmp(verb, "take") == 0 && std::scanf("%llu", &bytes) == 1) {
            std::printf("%d\n", static_cast<int>(cuMemAlloc(&at, bytes)));
        } else if (std::strcmp(verb, "free") == 0) {
            std::printf("%d\n", static_cast<int>(cuMemFree(at)));
        } else if (std::strcmp(verb, "info") == 0) {
            size_t free = 0, total = 0;
            cuMemGetInfo(&free, &total);
            std::printf("%zu\n", free);
        }
        std::fflush(stdout);
    }
    return 0;
}
