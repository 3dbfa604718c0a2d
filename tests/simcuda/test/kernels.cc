// kernels.cc - the kernels of the simulated GPU's own tests, compiled as host functions. Also a module image.
#include "tests/simcuda/simcuda_export.h"

extern "C" __global__ void add_one(const float* from, float* to, int count) {
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < static_cast<unsigned>(count)) to[i] = from[i] + 1.0f;
}
SIMCUDA_EXPORT(add_one);

extern "C" __global__ void fill_bytes(unsigned char* to, unsigned char value, uint64_t count) {
    uint64_t i = uint64_t{blockIdx.x} * blockDim.x + threadIdx.x;
    if (i < count) to[i] = value;
}
SIMCUDA_EXPORT(fill_bytes);

struct Pair {
    double a;
    char b;
};
// Parameters of several sizes, so that their offsets have gaps.
extern "C" __global__ void mixed(char c, double d, Pair p, short s, double* out) {
    *out = c + d + p.a + p.b + s;
}
SIMCUDA_EXPORT(mixed);

// Waits until the host (pinned or managed memory) says so: how a test holds a stream still.
extern "C" __global__ void wait_for(const volatile int* go) {
    while (__atomic_load_n(const_cast<const int*>(go), __ATOMIC_ACQUIRE) == 0) {
    }
}
SIMCUDA_EXPORT(wait_for);

// Reads and writes as much as every chunk of a sequence test's memory: to[i] = from[i] * 31 + salt.
extern "C" __global__ void scramble(const unsigned char* from, unsigned char* to, uint64_t count,
                                    unsigned char salt) {
    for (uint64_t i = 0; i < count; ++i) to[i] = static_cast<unsigned char>(from[i] * 31 + salt);
}
SIMCUDA_EXPORT(scramble);
