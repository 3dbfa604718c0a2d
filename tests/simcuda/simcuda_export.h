// simcuda_export.h - compiles CUDA kernels as host functions and offers them to the simulated driver.
//
// Include it in place of the CUDA headers, write (or include) the kernel as it stands in a .cu file, and say
// SIMCUDA_EXPORT(kernel) once. The grid is walked one thread after the other, so kernels whose threads wait for each other
// (__syncthreads, warp shuffles, atomics between blocks) don't compile: __syncthreads is not defined here on purpose.
#pragma once

#include <cstdint>
#include <tuple>
#include <utility>

#include "simcuda_kernel.h"

#ifndef __CUDACC__
#define __global__ [[gnu::visibility("default")]]
#define __device__
#define __host__
#define __forceinline__ inline
#ifndef __restrict__
#define __restrict__ __restrict
#endif
#endif

namespace simcuda {

struct Index {
    uint32_t x = 0, y = 0, z = 0;
};

// Where the thread that is being run stands. One host thread runs one launch at a time.
struct Position {
    Index thread, block, block_size, grid_size;
    void* shared = nullptr;
};
inline thread_local Position position;

template <class... Args>
struct Layout {
    static constexpr size_t kCount = sizeof...(Args);
    simcuda_param params[kCount ? kCount : 1] = {};
    constexpr Layout() {
        uint32_t sizes[] = {static_cast<uint32_t>(sizeof(Args))..., 0};
        uint32_t aligns[] = {static_cast<uint32_t>(alignof(Args))..., 1};
        uint32_t at = 0;
        for (size_t i = 0; i < kCount; ++i) {
            at = (at + aligns[i] - 1) / aligns[i] * aligns[i];
            params[i] = {at, sizes[i]};
            at += sizes[i];
        }
    }
};

template <auto Kernel, class... Args>
void call(void** params) {
    [&]<size_t... I>(std::index_sequence<I...>) {
        Kernel(*static_cast<Args*>(params[I])...);
    }(std::index_sequence_for<Args...>{});
}

template <auto Kernel, class... Args>
void walk_grid(const simcuda_launch* launch, void** params) {
    Position& p = position;
    p.grid_size = {launch->grid[0], launch->grid[1], launch->grid[2]};
    p.block_size = {launch->block[0], launch->block[1], launch->block[2]};
    p.shared = launch->shared;
    uint64_t blocks = uint64_t{p.grid_size.x} * p.grid_size.y * p.grid_size.z;
    uint64_t threads = uint64_t{p.block_size.x} * p.block_size.y * p.block_size.z;
    auto index_of = [](uint64_t n, const Index& size) {
        return Index{static_cast<uint32_t>(n % size.x), static_cast<uint32_t>(n / size.x % size.y),
                     static_cast<uint32_t>(n / size.x / size.y)};
    };
    for (uint64_t b = 0; b < blocks; ++b) {
        p.block = index_of(b, p.grid_size);
        for (uint64_t t = 0; t < threads; ++t) {
            p.thread = index_of(t, p.block_size);
            call<Kernel, Args...>(params);
        }
    }
}

template <auto Kernel>
struct Export;
template <class... Args, void (*Kernel)(Args...)>
struct Export<Kernel> {
    static constexpr Layout<Args...> kLayout{};
    static constexpr simcuda_kernel kEntry{SIMCUDA_KERNEL_ABI, sizeof...(Args), kLayout.params,
                                           &walk_grid<Kernel, Args...>};
};

}  // namespace simcuda

#define threadIdx (simcuda::position.thread)
#define blockIdx (simcuda::position.block)
#define blockDim (simcuda::position.block_size)
#define gridDim (simcuda::position.grid_size)

// At namespace scope, once for each kernel (which must have C linkage, so that its name is the one nvcc registers).
#define SIMCUDA_EXPORT(kernel)                                                          \
    extern "C" {                                                                        \
    [[gnu::visibility("default")]] extern const simcuda_kernel simcuda_kernel_##kernel; \
    const simcuda_kernel simcuda_kernel_##kernel = simcuda::Export<&kernel>::kEntry;    \
    }                                                                                   \
    static_assert(true) /* the semicolon that follows */
