// hash_kernel.cc - the hash kernel of the preloaded library as a host function, for the simulated GPU.
#include "cuda_shim/cuda/hash.h"

#include "tests/simcuda/simcuda_kernel.h"

using namespace tierd::shim::cuda;

namespace {

template <class T>
T parameter(void** parameters, int index) {
    return *static_cast<T*>(parameters[index]);
}

void run(const simcuda_launch*, void** parameters) {
    HashKey key{{parameter<uint64_t>(parameters, 3), parameter<uint64_t>(parameters, 4)}};
    auto* sum = parameter<Hash*>(parameters, 2);
    Hash hash =
        hash_words(key, parameter<const uint64_t*>(parameters, 0), parameter<uint64_t>(parameters, 1));
    sum->lane[0] += hash.lane[0];
    sum->lane[1] += hash.lane[1];
}

constexpr simcuda_param kParameters[] = {{0, 8}, {8, 8}, {16, 8}, {24, 8}, {32, 8}};

}  // namespace

extern "C" __attribute__((visibility("default")))
const simcuda_kernel simcuda_kernel_tierd_hash = {SIMCUDA_KERNEL_ABI, 5, kParameters, run};
