// recorder.cc - a libcuda.so.1 that can do nothing, and writes down what it is asked for: one line to SYMBOLS_FILE for each
// call of cuGetProcAddress_v2. What a runtime library asks at start-up is thereby known without a GPU.
#define __CUDA_API_VERSION_INTERNAL
#include <cuda.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

static CUresult refuse() {
    return CUDA_ERROR_NO_DEVICE;
}

CUresult CUDAAPI cuGetProcAddress_v2(const char* symbol, void** out, int version, cuuint64_t flags,
                                     CUdriverProcAddressQueryResult* status) {
    const char* path = ::getenv("SYMBOLS_FILE");
    if (std::FILE* file = path ? std::fopen(path, "a") : nullptr) {
        std::fprintf(file, "%s\t%d\t%llu\n", symbol, version, static_cast<unsigned long long>(flags));
        std::fclose(file);
    }
    *out = std::strcmp(symbol, "cuGetProcAddress") == 0 ? reinterpret_cast<void*>(&cuGetProcAddress_v2)
                                                        : reinterpret_cast<void*>(&refuse);
    if (status) *status = CU_GET_PROC_ADDRESS_SUCCESS;
    return CUDA_SUCCESS;
}
