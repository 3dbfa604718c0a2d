// misuse_cases.cc - one process, one mistake: what misuse_test runs. Prints the CUDA error of the mistake, if it lives.
//
// usage: simcuda_misuse_cases CASE | --list
#include <cuda.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace {

constexpr size_t kChunk = 2 << 20;

void ok(CUresult result, const char* what) {
    if (result == CUDA_SUCCESS) return;
    std::fprintf(stderr, "setting up failed: %s\n", what);
    std::exit(3);
}
#define OK(call) ok(call, #call)

CUcontext context;

void begin() {
    OK(cuInit(0));
    OK(cuDevicePrimaryCtxRetain(&context, 0));
    OK(cuCtxSetCurrent(context));
}
CUdeviceptr allocate(size_t bytes = 4096) {
    CUdeviceptr at = 0;
    OK(cuMemAlloc(&at, bytes));
    return at;
}
CUdeviceptr reserve(size_t chunks = 2) {
    CUdeviceptr at = 0;
    OK(cuMemAddressReserve(&at, chunks * kChunk, 0, 0, 0));
    return at;
}
CUmemGenericAllocationHandle create() {
    CUmemAllocationProp prop = {};
    prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    prop.location = {CU_MEM_LOCATION_TYPE_DEVICE, {0}};
    CUmemGenericAllocationHandle handle = 0;
    OK(cuMemCreate(&handle, kChunk, &prop, 0));
    return handle;
}
CUresult access(CUdeviceptr at, size_t bytes, CUmemAccess_flags flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE) {
    CUmemAccessDesc desc = {{CU_MEM_LOCATION_TYPE_DEVICE, {0}}, flags};
    return cuMemSetAccess(at, bytes, &desc, 1);
}
CUdeviceptr mapped(size_t chunks = 2) {
    CUdeviceptr at = reserve(chunks);
    for (size_t i = 0; i < chunks; ++i) OK(cuMemMap(at + i * kChunk, kChunk, 0, create(), 0));
    OK(access(at, chunks * kChunk));
    return at;
}
CUfunction function(const char* name) {
    CUmodule module = nullptr;
    CUfunction f = nullptr;
    OK(cuModuleLoad(&module, TEST_KERNELS));
    OK(cuModuleGetFunction(&f, module, name));
    return f;
}
CUresult launch_fill(CUdeviceptr at, size_t count, unsigned threads = 64) {
    unsigned char value = 7;
    void* params[] = {&at, &value, &count};
    return cuLaunchKernel(function("fill_bytes"), static_cast<unsigned>((count + threads - 1) / threads), 1,
                          1, threads, 1, 1, 0, nullptr, params, nullptr);
}
// A stream that never gets anywhere.
CUstream stuck() {
    static int never = 0;
    CUstream stream = nullptr;
    OK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    int* flag = &never;
    void* params[] = {&flag};
    OK(cuLaunchKernel(function("wait_for"), 1, 1, 1, 1, 1, 1, 0, stream, params, nullptr));
    return stream;
}
char host[4096];

struct Case {
    const char* name;
    CUresult (*mistake)();
};
const Case kCases[] = {
    {"free_twice",
     [] {
         CUdeviceptr at = allocate();
         OK(cuMemFree(at));
         return cuMemFree(at);
     }},
    {"free_in_the_middle", [] { return cuMemFree(allocate() + 512); }},
    {"free_mapped_memory", [] { return cuMemFree(mapped()); }},
    {"copy_to_freed_memory",
     [] {
         CUdeviceptr at = allocate();
         OK(cuMemFree(at));
         return cuMemcpyHtoD(at, host, 16);
     }},
    {"copy_past_the_end", [] { return cuMemcpyHtoD(allocate(1000), host, 1001); }},
    {"copy_without_access",
     [] {
         CUdeviceptr at = reserve();
         OK(cuMemMap(at, kChunk, 0, create(), 0));
         return cuMemcpyHtoD(at, host, 16);
     }},
    {"copy_to_read_only_memory",
     [] {
         CUdeviceptr at = mapped();
         OK(access(at, kChunk, CU_MEM_ACCESS_FLAGS_PROT_READ));
         return cuMemcpyHtoD(at, host, 16);
     }},
    {"copy_to_a_reservation", [] { return cuMemcpyHtoD(reserve(), host, 16); }},
    {"copy_to_host_memory_as_if_the_gpus",
     [] { return cuMemcpyHtoD(reinterpret_cast<CUdeviceptr>(host), host + 64, 16); }},
    {"copy_after_free_on_a_stream",
     [] {
         CUdeviceptr at = 0;
         CUstream stream = stuck();
         OK(cuMemAllocAsync(&at, 4096, stream));
         OK(cuMemFreeAsync(at, stream));
         return cuMemsetD8Async(at, 0, 16, stream);
     }},
    {"free_on_a_stream_twice",
     [] {
         CUdeviceptr at = 0;
         CUstream stream = stuck();
         OK(cuMemAllocAsync(&at, 4096, stream));
         OK(cuMemFreeAsync(at, stream));
         return cuMemFreeAsync(at, stream);
     }},
    {"map_twice",
     [] {
         CUdeviceptr at = mapped();
         return cuMemMap(at, kChunk, 0, create(), 0);
     }},
    {"map_outside_a_reservation", [] { return cuMemMap(reserve(2) + 2 * kChunk, kChunk, 0, create(), 0); }},
    {"map_unaligned", [] { return cuMemMap(reserve() + 4096, kChunk, 0, create(), 0); }},
    {"map_a_released_handle",
     [] {
         CUmemGenericAllocationHandle handle = create();
         OK(cuMemRelease(handle));
         return cuMemMap(reserve(), kChunk, 0, handle, 0);
     }},
    {"map_more_than_there_is", [] { return cuMemMap(reserve(), 2 * kChunk, 0, create(), 0); }},
    {"release_twice",
     [] {
         CUmemGenericAllocationHandle handle = create();
         OK(cuMemRelease(handle));
         return cuMemRelease(handle);
     }},
    {"create_an_unaligned_size",
     [] {
         CUmemAllocationProp prop = {};
         prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
         prop.location = {CU_MEM_LOCATION_TYPE_DEVICE, {0}};
         CUmemGenericAllocationHandle handle = 0;
         return cuMemCreate(&handle, 12345, &prop, 0);
     }},
    {"unmap_a_part_of_a_mapping",
     [] {
         CUmemAllocationProp prop = {};
         prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
         prop.location = {CU_MEM_LOCATION_TYPE_DEVICE, {0}};
         CUmemGenericAllocationHandle handle = 0;
         CUdeviceptr at = reserve();
         OK(cuMemCreate(&handle, 2 * kChunk, &prop, 0));
         OK(cuMemMap(at, 2 * kChunk, 0, handle, 0));
         return cuMemUnmap(at, kChunk);
     }},
    {"unmap_what_is_not_mapped", [] { return cuMemUnmap(reserve(), kChunk); }},
    {"unmap_under_a_copy",
     [] {
         CUdeviceptr at = mapped();
         OK(cuMemsetD8Async(at, 0, 16, stuck()));
         return cuMemUnmap(at, kChunk);
     }},
    {"set_access_to_nothing", [] { return access(reserve(), kChunk); }},
    {"free_a_reservation_in_use", [] { return cuMemAddressFree(mapped(), 2 * kChunk); }},
    {"free_a_part_of_a_reservation", [] { return cuMemAddressFree(reserve(), kChunk); }},
    {"free_pinned_memory_as_device_memory",
     [] {
         void* at = nullptr;
         OK(cuMemHostAlloc(&at, 4096, 0));
         return cuMemFree(reinterpret_cast<CUdeviceptr>(at));
     }},
    {"register_host_memory_twice",
     [] {
         OK(cuMemHostRegister(host, sizeof host, 0));
         return cuMemHostRegister(host + 64, 64, 0);
     }},
    {"unregister_what_is_not_registered", [] { return cuMemHostUnregister(host); }},
    {"work_without_a_context",
     [] {
         OK(cuCtxSetCurrent(nullptr));
         CUdeviceptr at = 0;
         return cuMemAlloc(&at, 16);
     }},
    {"work_in_a_destroyed_context",
     [] {
         CUcontext own = nullptr;
         OK(cuCtxCreate(&own, nullptr, 0, 0));
         OK(cuCtxDestroy(own));
         return cuCtxSetCurrent(own);
     }},
    {"memory_of_a_destroyed_context",
     [] {
         CUcontext own = nullptr;
         OK(cuCtxCreate(&own, nullptr, 0, 0));
         CUdeviceptr at = allocate();
         OK(cuCtxDestroy(own));
         OK(cuCtxSetCurrent(context));
         return cuMemcpyHtoD(at, host, 16);
     }},
    {"use_a_destroyed_stream",
     [] {
         CUstream stream = nullptr;
         OK(cuStreamCreate(&stream, 0));
         OK(cuStreamDestroy(stream));
         return cuStreamSynchronize(stream);
     }},
    {"destroy_a_stream_that_is_captured",
     [] {
         CUstream stream = nullptr;
         OK(cuStreamCreate(&stream, 0));
         OK(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
         return cuStreamDestroy(stream);
     }},
    {"wait_for_a_destroyed_event",
     [] {
         CUevent event = nullptr;
         OK(cuEventCreate(&event, 0));
         OK(cuEventDestroy(event));
         return cuEventSynchronize(event);
     }},
    {"time_an_event_that_was_never_recorded",
     [] {
         CUevent event = nullptr;
         OK(cuEventCreate(&event, 0));
         float ms = 0;
         return cuEventElapsedTime(&ms, event, event);
     }},
    {"launch_a_function_of_an_unloaded_module",
     [] {
         CUmodule module = nullptr;
         CUfunction f = nullptr;
         OK(cuModuleLoad(&module, TEST_KERNELS));
         OK(cuModuleGetFunction(&f, module, "add_one"));
         OK(cuModuleUnload(module));
         void* params[3] = {};
         return cuLaunchKernel(f, 1, 1, 1, 1, 1, 1, 0, nullptr, params, nullptr);
     }},
    {"launch_too_many_threads", [] { return launch_fill(allocate(), 4096, 2048); }},
    {"launch_without_parameters",
     [] { return cuLaunchKernel(function("add_one"), 1, 1, 1, 1, 1, 1, 0, nullptr, nullptr, nullptr); }},
    {"call_cuda_from_a_stream",
     [] {
         static CUresult inside = CUDA_SUCCESS;
         OK(cuLaunchHostFunc(nullptr, [](void*) { inside = cuMemFree(0); }, nullptr));
         OK(cuCtxSynchronize());
         return inside;
     }},
    // A kernel that touches what is not there dies of it, whatever SIMCUDA_MISUSE says.
    {"kernel_touches_unmapped_memory",
     [] {
         CUdeviceptr at = mapped(2);
         OK(cuMemUnmap(at + kChunk, kChunk));
         OK(launch_fill(at + kChunk - 16, 32));
         return cuCtxSynchronize();
     }},
    {"kernel_runs_past_an_allocation",
     [] {
         OK(launch_fill(allocate(512), 513));
         return cuCtxSynchronize();
     }},
    {"kernel_writes_read_only_memory",
     [] {
         CUdeviceptr at = mapped();
         OK(access(at, kChunk, CU_MEM_ACCESS_FLAGS_PROT_READ));
         OK(launch_fill(at, 16));
         return cuCtxSynchronize();
     }},
};

}  // namespace

int main(int argc, char** argv) {
    if (argc != 2) return 2;
    for (const Case& one : kCases) {
        if (std::strcmp(argv[1], "--list") == 0) std::puts(one.name);
        if (std::strcmp(argv[1], one.name) != 0) continue;
        begin();
        CUresult result = one.mistake();
        std::printf("%d\n", static_cast<int>(result));
        std::fflush(stdout);
        std::_Exit(result == CUDA_SUCCESS ? 0 : 1);  // streams of some cases are stuck
    }
    return 0;
}
