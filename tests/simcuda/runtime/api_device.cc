// api_device.cc - the runtime double: devices, errors, versions, and the program's kernels as nvcc registers them.
#include <cstring>

#include "tests/simcuda/runtime/call.h"

using namespace simcudart;

namespace {

int attribute(const DriverApi& d, CUdevice_attribute which) {
    int value = 0;
    d.cuDeviceGetAttribute(&value, which, 0);
    return value;
}

void limits_of(const DriverApi& d, cudaDeviceProp* p) {
    p->sharedMemPerBlock = static_cast<size_t>(attribute(d, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK));
    p->sharedMemPerBlockOptin =
        static_cast<size_t>(attribute(d, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN));
    p->sharedMemPerMultiprocessor =
        static_cast<size_t>(attribute(d, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR));
    p->regsPerBlock = attribute(d, CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK);
    p->warpSize = attribute(d, CU_DEVICE_ATTRIBUTE_WARP_SIZE);
    p->maxThreadsPerBlock = attribute(d, CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK);
    p->maxThreadsDim[0] = attribute(d, CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X);
    p->maxThreadsDim[1] = attribute(d, CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y);
    p->maxThreadsDim[2] = attribute(d, CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z);
    p->maxGridSize[0] = attribute(d, CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X);
    p->maxGridSize[1] = attribute(d, CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y);
    p->maxGridSize[2] = attribute(d, CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z);
    p->multiProcessorCount = attribute(d, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
    p->maxThreadsPerMultiProcessor = attribute(d, CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR);
}

cudaError_t properties(const DriverApi& d, cudaDeviceProp* p) {
    *p = {};
    limits_of(d, p);
    p->major = attribute(d, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
    p->minor = attribute(d, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
    p->l2CacheSize = attribute(d, CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE);
    p->asyncEngineCount = attribute(d, CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT);
    p->unifiedAddressing = attribute(d, CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING);
    p->managedMemory = attribute(d, CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY);
    p->concurrentManagedAccess = attribute(d, CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS);
    p->concurrentKernels = attribute(d, CU_DEVICE_ATTRIBUTE_CONCURRENT_KERNELS);
    p->canMapHostMemory = attribute(d, CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY);
    p->memoryPoolsSupported = attribute(d, CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED);
    p->hostRegisterSupported = attribute(d, CU_DEVICE_ATTRIBUTE_HOST_REGISTER_SUPPORTED);
    p->hostRegisterReadOnlySupported = attribute(d, CU_DEVICE_ATTRIBUTE_READ_ONLY_HOST_REGISTER_SUPPORTED);
    CUuuid uuid = {};
    d.cuDeviceGetUuid(&uuid, 0);
    std::memcpy(&p->uuid, &uuid, sizeof uuid);
    d.cuDeviceGetName(p->name, sizeof p->name, 0);
    return static_cast<cudaError_t>(d.cuDeviceTotalMem(&p->totalGlobalMem, 0));
}

// What <<< >>> hands over to the stub that nvcc writes for each kernel: a stack, for an argument may launch too.
struct Configuration {
    dim3 grid, block;
    size_t shared_bytes;
    cudaStream_t stream;
};
std::deque<Configuration>& configurations() {
    thread_local std::deque<Configuration> stack;
    return stack;
}

Kernel* kernel_of(cudaKernel_t kernel) {
    return reinterpret_cast<Kernel*>(kernel);
}

cudaError_t launch(Kernel& kernel, dim3 grid, dim3 block, void** args, size_t shared, cudaStream_t stream,
                   bool own) {
    return run([&](Runtime& r, const DriverApi&) {
        const DriverApi& d = own ? r.per_thread() : r.legacy();
        CUfunction f = nullptr;
        if (cudaError_t bad = r.function_of(kernel, &f); bad != cudaSuccess) return bad;
        return static_cast<cudaError_t>(d.cuLaunchKernel(f, grid.x, grid.y, grid.z, block.x, block.y, block.z,
                                                         static_cast<unsigned>(shared), stream, args,
                                                         nullptr));
    });
}

cudaError_t launch_by_host_function(const void* host, dim3 grid, dim3 block, void** args, size_t shared,
                                    cudaStream_t stream, bool own) {
    Kernel* kernel = nullptr;
    if (cudaError_t bad = Runtime::get().kernel_of(host, &kernel); bad != cudaSuccess) return note(bad);
    return launch(*kernel, grid, block, args, shared, stream, own);
}

template <class Body>
cudaError_t with_function(const void* host, Body body) {
    return run([&](Runtime& r, const DriverApi& d) {
        Kernel* kernel = nullptr;
        CUfunction f = nullptr;
        if (cudaError_t bad = r.kernel_of(host, &kernel); bad != cudaSuccess) return bad;
        if (cudaError_t bad = r.function_of(*kernel, &f); bad != cudaSuccess) return bad;
        return static_cast<cudaError_t>(body(d, f));
    });
}

int function_attribute(const DriverApi& d, CUfunction f, CUfunction_attribute which) {
    int value = 0;
    d.cuFuncGetAttribute(&value, which, f);
    return value;
}

}  // namespace

extern "C" {

void** __cudaRegisterFatBinary(void* image) {
    return reinterpret_cast<void**>(Runtime::get().add_binary(image));
}
void __cudaRegisterFatBinaryEnd(void**) {}
// The process ends; the driver takes all back.
void __cudaUnregisterFatBinary(void**) {}
char __cudaInitModule(void**) {
    return 1;
}
void __cudaRegisterFunction(void** binary, const char* host_function, char*, const char* name, int, uint3*,
                            uint3*, dim3*, dim3*, int*) {
    Runtime::get().add_kernel(reinterpret_cast<Binary*>(binary), host_function, name);
}
// Device variables have no host functions to stand on: cudaMemcpyToSymbol and its like are not offered.
void __cudaRegisterVar(void**, char*, char*, const char*, int, size_t, int, int) {}
void __cudaRegisterManagedVar(void**, void**, char*, const char*, int, size_t, int, int) {}

unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared_bytes, CUstream_st* stream) {
    configurations().push_back({grid, block, shared_bytes, stream});
    return 0;
}
cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, size_t* shared_bytes, void* stream) {
    if (configurations().empty()) return note(cudaErrorMissingConfiguration);
    Configuration c = configurations().back();
    configurations().pop_back();
    *grid = c.grid;
    *block = c.block;
    *shared_bytes = c.shared_bytes;
    *static_cast<cudaStream_t*>(stream) = c.stream;
    return cudaSuccess;
}
cudaError_t __cudaGetKernel(cudaKernel_t* out, const void* host_function) {
    return note(Runtime::get().kernel_of(host_function, reinterpret_cast<Kernel**>(out)));
}
cudaError_t __cudaLaunchKernel(cudaKernel_t k, dim3 grid, dim3 block, void** args, size_t shared,
                               cudaStream_t s) {
    return launch(*kernel_of(k), grid, block, args, shared, s, false);
}
cudaError_t __cudaLaunchKernel_ptsz(cudaKernel_t k, dim3 grid, dim3 block, void** args, size_t shared,
                                    cudaStream_t s) {
    return launch(*kernel_of(k), grid, block, args, shared, s, true);
}
cudaError_t cudaLaunchKernel(const void* host, dim3 grid, dim3 block, void** args, size_t shared,
                             cudaStream_t s) {
    return launch_by_host_function(host, grid, block, args, shared, s, false);
}
cudaError_t cudaLaunchKernel_ptsz(const void* host, dim3 grid, dim3 block, void** args, size_t shared,
                                  cudaStream_t s) {
    return launch_by_host_function(host, grid, block, args, shared, s, true);
}
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* c, const void* host, void** args) {
    return launch_by_host_function(host, c->gridDim, c->blockDim, args, c->dynamicSmemBytes, c->stream,
                                   false);
}

cudaError_t cudaGetLastError() {
    cudaError_t error = last_error();
    last_error() = cudaSuccess;
    return error;
}
cudaError_t cudaPeekAtLastError() {
    return last_error();
}
const char* cudaGetErrorName(cudaError_t error) {
    const char* text = nullptr;
    if (Runtime::get().begin_without_context() == cudaSuccess)
        Runtime::get().legacy().cuGetErrorName(static_cast<CUresult>(error), &text);
    return text ? text : "unrecognized error code";
}
const char* cudaGetErrorString(cudaError_t error) {
    const char* text = nullptr;
    if (error == cudaErrorInsufficientDriver)
        return "CUDA driver version is insufficient for CUDA runtime version";
    if (Runtime::get().begin_without_context() == cudaSuccess)
        Runtime::get().legacy().cuGetErrorString(static_cast<CUresult>(error), &text);
    return text ? text : "unrecognized error code";
}

cudaError_t cudaRuntimeGetVersion(int* version) {
    *version = CUDART_VERSION;
    return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) {
    return run_bare([&](Runtime&, const DriverApi& d) { return d.cuDriverGetVersion(version); });
}
cudaError_t cudaGetDeviceCount(int* count) {
    return run_bare([&](Runtime&, const DriverApi& d) { return d.cuDeviceGetCount(count); });
}
cudaError_t cudaGetDevice(int* device) {
    return run_bare([&](Runtime&, const DriverApi&) { return *device = 0, cudaSuccess; });
}
cudaError_t cudaSetDevice(int device) {
    if (device != 0) return note(cudaErrorInvalidDevice);
    return run([](Runtime&, const DriverApi&) { return cudaSuccess; });
}
cudaError_t cudaInitDevice(int device, unsigned, unsigned) {
    return cudaSetDevice(device);
}
cudaError_t cudaSetDeviceFlags(unsigned flags) {
    return run_bare([&](Runtime&, const DriverApi& d) { return d.cuDevicePrimaryCtxSetFlags(0, flags); });
}
cudaError_t cudaGetDeviceFlags(unsigned* flags) {
    int active = 0;
    return run_bare(
        [&](Runtime&, const DriverApi& d) { return d.cuDevicePrimaryCtxGetState(0, flags, &active); });
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int device) {
    if (device != 0) return note(cudaErrorInvalidDevice);
    return run_bare([&](Runtime&, const DriverApi& d) { return properties(d, p); });
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr which, int device) {
    return run_bare([&](Runtime&, const DriverApi& d) {
        return d.cuDeviceGetAttribute(value, static_cast<CUdevice_attribute>(which), device);
    });
}
cudaError_t cudaDeviceGetPCIBusId(char* id, int len, int device) {
    return run_bare([&](Runtime&, const DriverApi& d) { return d.cuDeviceGetPCIBusId(id, len, device); });
}
cudaError_t cudaDeviceCanAccessPeer(int* can, int device, int peer) {
    return run_bare([&](Runtime&, const DriverApi& d) { return d.cuDeviceCanAccessPeer(can, device, peer); });
}
cudaError_t cudaDeviceSynchronize() {
    return run([](Runtime&, const DriverApi& d) { return d.cuCtxSynchronize(); });
}
cudaError_t cudaDeviceReset() {
    return note(Runtime::get().reset());
}
cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
    return run([&](Runtime&, const DriverApi& d) { return d.cuCtxGetStreamPriorityRange(least, greatest); });
}
cudaError_t cudaDeviceGetLimit(size_t* value, cudaLimit which) {
    return run(
        [&](Runtime&, const DriverApi& d) { return d.cuCtxGetLimit(value, static_cast<CUlimit>(which)); });
}
cudaError_t cudaDeviceSetLimit(cudaLimit which, size_t value) {
    return run(
        [&](Runtime&, const DriverApi& d) { return d.cuCtxSetLimit(static_cast<CUlimit>(which), value); });
}
cudaError_t cudaGetDriverEntryPointByVersion(const char* symbol, void** out, unsigned version,
                                             unsigned long long flags,
                                             cudaDriverEntryPointQueryResult* status) {
    return note(Runtime::get().entry_point(symbol, out, version, flags, status));
}
cudaError_t cudaGetDriverEntryPoint(const char* symbol, void** out, unsigned long long flags,
                                    cudaDriverEntryPointQueryResult* status) {
    return note(Runtime::get().entry_point(symbol, out, CUDART_VERSION, flags, status));
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* out, const void* host) {
    return with_function(host, [&](const DriverApi& d, CUfunction f) {
        *out = {};
        out->maxThreadsPerBlock = function_attribute(d, f, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK);
        out->numRegs = function_attribute(d, f, CU_FUNC_ATTRIBUTE_NUM_REGS);
        out->ptxVersion = function_attribute(d, f, CU_FUNC_ATTRIBUTE_PTX_VERSION);
        out->binaryVersion = function_attribute(d, f, CU_FUNC_ATTRIBUTE_BINARY_VERSION);
        out->maxDynamicSharedSizeBytes =
            function_attribute(d, f, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES);
        return CUDA_SUCCESS;
    });
}
cudaError_t cudaFuncSetAttribute(const void* host, cudaFuncAttribute which, int value) {
    return with_function(host, [&](const DriverApi& d, CUfunction f) {
        return d.cuFuncSetAttribute(f, static_cast<CUfunction_attribute>(which), value);
    });
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* out, const void* host, int block,
                                                          size_t shared) {
    return with_function(host, [&](const DriverApi& d, CUfunction f) {
        return d.cuOccupancyMaxActiveBlocksPerMultiprocessor(out, f, block, shared);
    });
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* out, const void* host, int block,
                                                                   size_t shared, unsigned flags) {
    return with_function(host, [&](const DriverApi& d, CUfunction f) {
        return d.cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(out, f, block, shared, flags);
    });
}

}  // extern "C"
