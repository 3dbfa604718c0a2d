// ways_in.cc - finds functions of the driver in every way that engines do, and says whose they are.
//
// Prints one line for each way: its name, and "ours" where the function lies in the preloaded library, else "driver".
#define __CUDA_API_VERSION_INTERNAL 1
#include <cuda.h>
#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

void say(const char* way, const void* function) {
    Dl_info info{};
    bool known = function != nullptr && ::dladdr(function, &info) != 0;
    bool ours = known && std::strstr(info.dli_fname, "libtierd_shim") != nullptr;
    std::printf("%s: %s\n", way, !known ? "nowhere" : ours ? "ours" : "driver");
}

void* by_query(const char* symbol, cuuint64_t flags) {
    void* found = nullptr;
    CUdriverProcAddressQueryResult status{};
    return cuGetProcAddress_v2(symbol, &found, CUDA_VERSION, flags, &status) == CUDA_SUCCESS ? found
                                                                                             : nullptr;
}

}  // namespace

int main() {
    if (cuInit(0) != CUDA_SUCCESS) return 2;
    void* driver = ::dlopen("libcuda.so.1", RTLD_NOW);
    say("direct cuMemAlloc_v2", reinterpret_cast<void*>(&cuMemAlloc_v2));
    say("direct cuDeviceGetName", reinterpret_cast<void*>(&cuDeviceGetName));
    say("dlsym cuLaunchKernel", ::dlsym(driver, "cuLaunchKernel"));
    say("dlsym default cuLaunchKernel", ::dlsym(RTLD_DEFAULT, "cuLaunchKernel"));
    say("dlsym cuLaunchKernel_ptsz", ::dlsym(driver, "cuLaunchKernel_ptsz"));
    say("dlsym cuDeviceGetName", ::dlsym(driver, "cuDeviceGetName"));
    say("dlsym cuNoSuchFunction", ::dlsym(driver, "cuNoSuchFunction"));
    say("dlvsym cuMemAlloc_v2",
        ::dlvsym(driver, "cuMemAlloc_v2",
                 std::getenv("CUDA_SYMBOL_VERSION") != nullptr ? std::getenv("CUDA_SYMBOL_VERSION")
                                                               : "libcuda.so.1"));
    say("query cuMemAlloc", by_query("cuMemAlloc", CU_GET_PROC_ADDRESS_DEFAULT));
    say("query cuMemcpyHtoDAsync legacy", by_query("cuMemcpyHtoDAsync", CU_GET_PROC_ADDRESS_LEGACY_STREAM));
    say("query cuMemcpyHtoDAsync per thread",
        by_query("cuMemcpyHtoDAsync", CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM));
    say("query cuGetProcAddress", by_query("cuGetProcAddress", CU_GET_PROC_ADDRESS_DEFAULT));
    say("query cuDeviceGetName", by_query("cuDeviceGetName", CU_GET_PROC_ADDRESS_DEFAULT));
    say("libc strlen", ::dlsym(RTLD_DEFAULT, "strlen"));
    say("libc next malloc", ::dlsym(RTLD_NEXT, "malloc"));
    bool differ = by_query("cuMemcpyHtoDAsync", CU_GET_PROC_ADDRESS_LEGACY_STREAM) !=
                  by_query("cuMemcpyHtoDAsync", CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM);
    std::printf("stream flavours differ: %s\n", differ ? "yes" : "no");
    ::dlerror();
    bool told = ::dlsym(driver, "cuNoSuchFunction") == nullptr && ::dlerror() != nullptr;
    std::printf("dlerror tells: %s\n", told ? "yes" : "no");
    return 0;
}
