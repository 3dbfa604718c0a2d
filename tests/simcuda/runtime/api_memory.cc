// api_memory.cc - the runtime double: allocation, copies, fills, and questions about addresses.
#include "tests/simcuda/runtime/call.h"

using namespace simcudart;

namespace {

// A pitched copy that the driver calls 2D; the kind only says what unified addressing knows anyway.
CUDA_MEMCPY2D rows(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width,
                   size_t height) {
    CUDA_MEMCPY2D p = {};
    p.srcMemoryType = p.dstMemoryType = CU_MEMORYTYPE_UNIFIED;
    p.srcDevice = address(from);
    p.dstDevice = address(to);
    p.srcPitch = from_pitch;
    p.dstPitch = to_pitch;
    p.WidthInBytes = width;
    p.Height = height;
    return p;
}

CUresult copy(const DriverApi& d, void* to, const void* from, size_t n, cudaMemcpyKind kind) {
    switch (kind) {
        case cudaMemcpyHostToDevice:
            return d.cuMemcpyHtoD(address(to), from, n);
        case cudaMemcpyDeviceToHost:
            return d.cuMemcpyDtoH(to, address(from), n);
        case cudaMemcpyDeviceToDevice:
            return d.cuMemcpyDtoD(address(to), address(from), n);
        default:
            return d.cuMemcpy(address(to), address(from), n);
    }
}

CUresult copy_async(const DriverApi& d, void* to, const void* from, size_t n, cudaMemcpyKind kind,
                    cudaStream_t s) {
    switch (kind) {
        case cudaMemcpyHostToDevice:
            return d.cuMemcpyHtoDAsync(address(to), from, n, s);
        case cudaMemcpyDeviceToHost:
            return d.cuMemcpyDtoHAsync(to, address(from), n, s);
        case cudaMemcpyDeviceToDevice:
            return d.cuMemcpyDtoDAsync(address(to), address(from), n, s);
        default:
            return d.cuMemcpyAsync(address(to), address(from), n, s);
    }
}

CUmemLocation location_of(cudaMemLocation l) {
    CUmemLocation out = {};
    out.type = static_cast<CUmemLocationType>(l.type);
    out.id = l.id;
    return out;
}

cudaError_t attributes(cudaPointerAttributes* out, const void* pointer) {
    return run([&](Runtime&, const DriverApi& d) {
        CUmemorytype type = {};
        int managed = 0, device = 0;
        CUdeviceptr on_device = 0;
        void* on_host = nullptr;
        CUpointer_attribute which[] = {CU_POINTER_ATTRIBUTE_MEMORY_TYPE, CU_POINTER_ATTRIBUTE_IS_MANAGED,
                                       CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL,
                                       CU_POINTER_ATTRIBUTE_DEVICE_POINTER,
                                       CU_POINTER_ATTRIBUTE_HOST_POINTER};
        void* answers[] = {&type, &managed, &device, &on_device, &on_host};
        CUresult result = d.cuPointerGetAttributes(5, which, answers, address(pointer));
        if (result != CUDA_SUCCESS) return result;
        *out = {};
        out->type = managed                        ? cudaMemoryTypeManaged
                    : type == CU_MEMORYTYPE_HOST   ? cudaMemoryTypeHost
                    : type == CU_MEMORYTYPE_DEVICE ? cudaMemoryTypeDevice
                                                   : cudaMemoryTypeUnregistered;
        out->device = out->type == cudaMemoryTypeUnregistered ? -2 : device;
        out->devicePointer = reinterpret_cast<void*>(on_device);
        out->hostPointer = out->type == cudaMemoryTypeUnregistered ? const_cast<void*>(pointer) : on_host;
        return CUDA_SUCCESS;
    });
}

}  // namespace

// Each pair is one function for the legacy default stream and one for the thread's own.
#define SIMCUDART_PAIR(name, suffix, params, ...)                              \
    extern "C" cudaError_t name params {                                       \
        return run_on(false, [&](const DriverApi& d) { return __VA_ARGS__; }); \
    }                                                                          \
    extern "C" cudaError_t name##suffix params {                               \
        return run_on(true, [&](const DriverApi& d) { return __VA_ARGS__; });  \
    }

SIMCUDART_PAIR(cudaMemcpy, _ptds, (void* to, const void* from, size_t n, cudaMemcpyKind kind),
               copy(d, to, from, n, kind))
SIMCUDART_PAIR(cudaMemcpyAsync, _ptsz,
               (void* to, const void* from, size_t n, cudaMemcpyKind kind, cudaStream_t s),
               copy_async(d, to, from, n, kind, s))
SIMCUDART_PAIR(cudaMemset, _ptds, (void* to, int v, size_t n),
               d.cuMemsetD8(address(to), static_cast<unsigned char>(v), n))
SIMCUDART_PAIR(cudaMemsetAsync, _ptsz, (void* to, int v, size_t n, cudaStream_t s),
               d.cuMemsetD8Async(address(to), static_cast<unsigned char>(v), n, s))
SIMCUDART_PAIR(cudaMemset2D, _ptds, (void* to, size_t pitch, int v, size_t w, size_t h),
               d.cuMemsetD2D8(address(to), pitch, static_cast<unsigned char>(v), w, h))
SIMCUDART_PAIR(cudaMemset2DAsync, _ptsz, (void* to, size_t pitch, int v, size_t w, size_t h, cudaStream_t s),
               d.cuMemsetD2D8Async(address(to), pitch, static_cast<unsigned char>(v), w, h, s))
SIMCUDART_PAIR(cudaMallocAsync, _ptsz, (void** out, size_t n, cudaStream_t s),
               d.cuMemAllocAsync(reinterpret_cast<CUdeviceptr*>(out), n, s))
SIMCUDART_PAIR(cudaMallocFromPoolAsync, _ptsz, (void** out, size_t n, cudaMemPool_t pool, cudaStream_t s),
               d.cuMemAllocFromPoolAsync(reinterpret_cast<CUdeviceptr*>(out), n, pool, s))
SIMCUDART_PAIR(cudaFreeAsync, _ptsz, (void* p, cudaStream_t s), d.cuMemFreeAsync(address(p), s))
SIMCUDART_PAIR(cudaMemPrefetchAsync, _ptsz,
               (const void* p, size_t n, cudaMemLocation to, unsigned flags, cudaStream_t s),
               d.cuMemPrefetchAsync(address(p), n, location_of(to), flags, s))

extern "C" cudaError_t cudaMemcpy2D(void* to, size_t to_pitch, const void* from, size_t from_pitch,
                                    size_t width, size_t height, cudaMemcpyKind) {
    CUDA_MEMCPY2D p = rows(to, to_pitch, from, from_pitch, width, height);
    return run([&](Runtime&, const DriverApi& d) { return d.cuMemcpy2DUnaligned(&p); });
}
extern "C" cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch,
                                         size_t width, size_t height, cudaMemcpyKind, cudaStream_t s) {
    CUDA_MEMCPY2D p = rows(to, to_pitch, from, from_pitch, width, height);
    return run([&](Runtime&, const DriverApi& d) { return d.cuMemcpy2DAsync(&p, s); });
}

extern "C" cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
    return run([&](Runtime&, const DriverApi& d) { return d.cuMemGetInfo(free_bytes, total_bytes); });
}
extern "C" cudaError_t cudaMalloc(void** out, size_t n) {
    return run([&](Runtime&, const DriverApi& d) -> CUresult {
        *out = nullptr;
        if (n == 0) return CUDA_SUCCESS;  // the runtime allows what the driver refuses
        return d.cuMemAlloc(reinterpret_cast<CUdeviceptr*>(out), n);
    });
}
extern "C" cudaError_t cudaMallocPitch(void** out, size_t* pitch, size_t width, size_t height) {
    return run([&](Runtime&, const DriverApi& d) {
        return d.cuMemAllocPitch(reinterpret_cast<CUdeviceptr*>(out), pitch, width, height, 4);
    });
}
extern "C" cudaError_t cudaMallocManaged(void** out, size_t n, unsigned flags) {
    return run([&](Runtime&, const DriverApi& d) {
        return d.cuMemAllocManaged(reinterpret_cast<CUdeviceptr*>(out), n, flags);
    });
}
extern "C" cudaError_t cudaMemAdvise(const void* p, size_t n, cudaMemoryAdvise advice,
                                     cudaMemLocation where) {
    return run([&](Runtime&, const DriverApi& d) {
        return d.cuMemAdvise(address(p), n, static_cast<CUmem_advise>(advice), location_of(where));
    });
}
extern "C" cudaError_t cudaFree(void* p) {
    return run([&](Runtime&, const DriverApi& d) { return p ? d.cuMemFree(address(p)) : CUDA_SUCCESS; });
}
extern "C" cudaError_t cudaHostAlloc(void** out, size_t n, unsigned flags) {
    return run([&](Runtime&, const DriverApi& d) { return d.cuMemHostAlloc(out, n, flags); });
}
extern "C" cudaError_t cudaMallocHost(void** out, size_t n) {
    return cudaHostAlloc(out, n, 0);
}
extern "C" cudaError_t cudaFreeHost(void* p) {
    return run([&](Runtime&, const DriverApi& d) { return p ? d.cuMemFreeHost(p) : CUDA_SUCCESS; });
}
extern "C" cudaError_t cudaHostRegister(void* p, size_t n, unsigned flags) {
    return run([&](Runtime&, const DriverApi& d) { return d.cuMemHostRegister(p, n, flags); });
}
extern "C" cudaError_t cudaHostUnregister(void* p) {
    return run([&](Runtime&, const DriverApi& d) { return d.cuMemHostUnregister(p); });
}
extern "C" cudaError_t cudaHostGetDevicePointer(void** out, void* p, unsigned flags) {
    return run([&](Runtime&, const DriverApi& d) {
        return d.cuMemHostGetDevicePointer(reinterpret_cast<CUdeviceptr*>(out), p, flags);
    });
}
extern "C" cudaError_t cudaHostGetFlags(unsigned* flags, void* p) {
    return run([&](Runtime&, const DriverApi& d) { return d.cuMemHostGetFlags(flags, p); });
}
extern "C" cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* out, const void* pointer) {
    return attributes(out, pointer);
}

extern "C" cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t* out, int device) {
    return run_bare([&](Runtime&, const DriverApi& d) { return d.cuDeviceGetDefaultMemPool(out, device); });
}
extern "C" cudaError_t cudaDeviceGetMemPool(cudaMemPool_t* out, int device) {
    return run_bare([&](Runtime&, const DriverApi& d) { return d.cuDeviceGetMemPool(out, device); });
}
extern "C" cudaError_t cudaDeviceSetMemPool(int device, cudaMemPool_t pool) {
    return run_bare([&](Runtime&, const DriverApi& d) { return d.cuDeviceSetMemPool(device, pool); });
}
extern "C" cudaError_t cudaMemPoolDestroy(cudaMemPool_t pool) {
    return run_bare([&](Runtime&, const DriverApi& d) { return d.cuMemPoolDestroy(pool); });
}
extern "C" cudaError_t cudaMemPoolTrimTo(cudaMemPool_t pool, size_t keep_bytes) {
    return run_bare([&](Runtime&, const DriverApi& d) { return d.cuMemPoolTrimTo(pool, keep_bytes); });
}
extern "C" cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t pool, cudaMemPoolAttr which, void* value) {
    return run_bare([&](Runtime&, const DriverApi& d) {
        return d.cuMemPoolGetAttribute(pool, static_cast<CUmemPool_attribute>(which), value);
    });
}
extern "C" cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t pool, cudaMemPoolAttr which, void* value) {
    return run_bare([&](Runtime&, const DriverApi& d) {
        return d.cuMemPoolSetAttribute(pool, static_cast<CUmemPool_attribute>(which), value);
    });
}
