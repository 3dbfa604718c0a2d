// out_of_memory.cc - allocates until the driver says no, and tells how that looked: an engine's way of finding out.
#define __CUDA_API_VERSION_INTERNAL 1
#include <cuda.h>

#include <cstdio>
#include <vector>

int main() {
    CUcontext context = nullptr;
    if (cuInit(0) != CUDA_SUCCESS || cuDevicePrimaryCtxRetain(&context, 0) != CUDA_SUCCESS ||
        cuCtxSetCurrent(context) != CUDA_SUCCESS)
        return 2;
    constexpr size_t kBytes = 8u << 20;
    std::vector<CUdeviceptr> held;
    CUdeviceptr address = 0;
    CUresult result = CUDA_SUCCESS;
    while ((result = cuMemAlloc_v2(&address, kBytes)) == CUDA_SUCCESS) held.push_back(address);
    std::printf("%zu allocations, then error %d\n", held.size(), static_cast<int>(result));
    size_t free_bytes = 0, total_bytes = 0;
    cuMemGetInfo_v2(&free_bytes, &total_bytes);
    // To the nearest: who stands between may need a few KiB of the GPU itself.
    std::printf("%zu of %zu MiB free\n", (free_bytes + (1u << 19)) >> 20, total_bytes >> 20);
    CUdeviceptr base = 0;
    size_t bytes = 0;
    result = cuMemGetAddressRange_v2(&base, &bytes, held.back() + 12345);
    std::printf("range: %d %d %zu\n", static_cast<int>(result), base == held.back(), bytes);
    unsigned type = 0;
    cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, held.front());
    std::printf("memory type: %u\n", type);
    std::printf("free inside: %d\n", static_cast<int>(cuMemFree_v2(held.front() + 4096)));
    for (CUdeviceptr one : held)
        if (cuMemFree_v2(one) != CUDA_SUCCESS) return 3;
    std::printf("again: %d\n", static_cast<int>(cuMemAlloc_v2(&address, kBytes)));
    return 0;
}
