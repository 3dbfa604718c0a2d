// gpu.h - what the tests of the simulated driver share. One thread.
#pragma once

#include <cuda.h>

#include <boost/test/unit_test.hpp>

namespace simcuda_test {

inline void ok(CUresult result) {
    if (result == CUDA_SUCCESS) return;
    const char* name = nullptr;
    cuGetErrorName(result, &name);
    BOOST_FAIL("CUDA says " << (name ? name : "an unknown error"));
}

inline CUmemAllocationProp gpu_memory() {
    CUmemAllocationProp prop = {};
    prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    prop.location = {CU_MEM_LOCATION_TYPE_DEVICE, {0}};
    return prop;
}

// Maps 2 MiB, readable and writable.
inline void map_chunk(CUdeviceptr at, CUmemGenericAllocationHandle handle) {
    ok(cuMemMap(at, 2 << 20, 0, handle, 0));
    CUmemAccessDesc access = {{CU_MEM_LOCATION_TYPE_DEVICE, {0}}, CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
    ok(cuMemSetAccess(at, 2 << 20, &access, 1));
}

// A stream that stands still until go(), so that what comes after can be looked at before it happens.
class Held {
  public:
    explicit Held(CUfunction wait_for, unsigned flags = CU_STREAM_NON_BLOCKING) {
        ok(cuMemHostAlloc(reinterpret_cast<void**>(&flag_), sizeof *flag_, 0));
        *flag_ = 0;
        ok(cuStreamCreate(&stream, flags));
        void* params[] = {&flag_};
        ok(cuLaunchKernel(wait_for, 1, 1, 1, 1, 1, 1, 0, stream, params, nullptr));
    }
    ~Held() {
        go();
        destroy();
        cuCtxSynchronize();
        cuMemFreeHost(flag_);
    }
    Held(const Held&) = delete;
    void go() { __atomic_store_n(flag_, 1, __ATOMIC_RELEASE); }
    void destroy() {
        if (stream) ok(cuStreamDestroy(stream));
        stream = nullptr;
    }

    CUstream stream = nullptr;

  private:
    int* flag_ = nullptr;
};

}  // namespace simcuda_test
