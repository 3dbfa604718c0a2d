#include "cuda_shim/cuda/verifier.h"

namespace tierd::shim::cuda {

bool Verifier::prepare() {
    const uint64_t hash_bytes = range_.chunk_count() * sizeof(Hash);
    CUmodule module = nullptr;
    if (TIERD_REAL(cuModuleLoadData) == nullptr || TIERD_REAL(cuModuleGetFunction) == nullptr ||
        TIERD_REAL(cuLaunchKernel) == nullptr || TIERD_REAL(cuMemAlloc_v2) == nullptr ||
        TIERD_REAL(cuMemsetD8Async) == nullptr)
        return false;
    if (sys::call(SYS_getrandom, &key_, sizeof key_, 0) != sizeof key_) return false;
    if (!driver::ok(TIERD_REAL(cuModuleLoadData)(&module, tierd_hash_ptx)) ||
        !driver::allocate(&sums_, hash_bytes) || !driver::allocate(&proofs_, hash_bytes))
        return false;
    host_sums_ = reinterpret_cast<Hash*>(driver::allocate_pinned(2 * hash_bytes));
    if (host_sums_ == nullptr) return false;
    host_proofs_ = host_sums_ + range_.chunk_count();
    if (driver::ok(TIERD_REAL(cuModuleGetFunction)(&function_, module, kHashKernel))) return true;
    function_ = nullptr;
    return false;
}

CUresult Verifier::start(uint32_t index, CUdeviceptr sums) {
    CUdeviceptr words = range_.address_of(index), sum = sums + index * sizeof(Hash);
    uint64_t count = range_.chunk_bytes() / sizeof(uint64_t);
    void* parameters[] = {&words, &count, &sum, &key_.lane[0], &key_.lane[1]};
    CUstream stream = streams_.hashes();
    CUresult result = TIERD_REAL(cuMemsetD8Async)(sum, 0, sizeof(Hash), stream);
    if (!driver::ok(result)) return result;
    return TIERD_REAL(cuLaunchKernel)(function_, 64, 1, 1, 256, 1, 1, 0, stream, parameters, nullptr);
}

bool Verifier::verify_clean(const uint32_t* victims, uint32_t count, bool* equal) {
    Stopwatch watch(counters_.proof_ns);
    uint32_t first = kNone, last = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (range_.chunk(victims[i]).state != ChunkState::clean) continue;
        if (!driver::ok(start(victims[i], proofs_))) return false;
        if (victims[i] < first) first = victims[i];
        if (victims[i] > last) last = victims[i];
    }
    if (first == kNone) return true;
    uint64_t offset = first * sizeof(Hash), length = (last - first + 1) * sizeof(Hash);
    CUstream stream = streams_.hashes();
    if (!driver::ok(driver::copy_to_host(host_sums_ + first, sums_ + offset, length, stream)) ||
        !driver::ok(driver::copy_to_host(host_proofs_ + first, proofs_ + offset, length, stream)) ||
        !driver::ok(driver::synchronize(stream)))
        return false;
    for (uint32_t i = 0; i < count; i++)
        equal[i] = range_.chunk(victims[i]).state == ChunkState::clean &&
                   host_sums_[victims[i]] == host_proofs_[victims[i]];
    return true;
}

}  // namespace tierd::shim::cuda
