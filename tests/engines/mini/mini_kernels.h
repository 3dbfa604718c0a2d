// mini_kernels.h - the kernels of the mini engine: compiled by nvcc for a GPU, and by the host's compiler for a simulated
// one. Whole numbers that wrap around, so that every machine and every order of launches gives the same bits.
//
// The host's compiler includes tests/simcuda/simcuda_export.h first, which gives the words of CUDA their meaning.
#pragma once

#include <stdint.h>

// y = mix(W x + norm): one row a thread.
extern "C" __global__ void mini_layer(const uint32_t* __restrict__ weights, const uint32_t* __restrict__ norm,
                                      const uint32_t* __restrict__ x, uint32_t* __restrict__ y,
                                      uint32_t width) {
    uint32_t row = blockIdx.x * blockDim.x + threadIdx.x;
    if (row >= width) return;
    const uint32_t* w = weights + (uint64_t)row * width;
    uint32_t sum = norm[row];
    for (uint32_t i = 0; i < width; ++i) sum += w[i] * x[i];
    y[row] = (sum ^ (sum >> 15)) * 0x2c1b3c6du;
}

// x = the embedding's row of this token.
extern "C" __global__ void mini_embed(const uint32_t* __restrict__ table, uint32_t token,
                                      uint32_t* __restrict__ x, uint32_t width) {
    uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < width) x[i] = table[(uint64_t)token * width + i];
}

// cache[position] = x: what an engine keeps between steps, so that memory that weights share is written too.
extern "C" __global__ void mini_keep(const uint32_t* __restrict__ x, uint32_t* __restrict__ cache,
                                     uint32_t position, uint32_t width) {
    uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < width) cache[(uint64_t)position * width + i] = x[i] + position;
}
