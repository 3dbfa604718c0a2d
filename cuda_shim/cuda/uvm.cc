// uvm.cc - the GPU's memory where it is managed memory (TIERD_CUDA=uvm): the driver moves it, we say when. See gpu.h.
//
// The reserved range is one managed allocation, never larger than what was free on the GPU when it was made. The decisions are
// those of elastic memory; what is carried out differs. Bringing a chunk writes its slices of weight files into it, at home,
// once, and prefetches it; taking it away prefetches it home. So its bytes are always the driver's to keep, whoever writes to
// them: there is no hash, no saved copy, and a chunk without slices is simply at home. A chunk of weights alone is advised
// read-mostly, so that its copy at home stays good and it goes home without a transfer.
//
// Invariant: managed memory that was asked for is less than what the GPU had free. A chunk that counts as resident was
//            prefetched, and launches wait for that.
// Callers:   as gpu.h says.
// Fails:     where the driver lacks what it takes (concurrent access, CUDA 12.2's functions), set-up says so and fails.
#include <string.h>

#include "cuda_shim/cuda/context_guard.h"
#include "cuda_shim/cuda/shim.h"
#include "cuda_shim/host/log.h"

namespace tierd::shim::cuda {

namespace {

constexpr uint64_t kReadMostly = 1;  // a managed chunk's `memory`: it was advised so

bool has_managed_functions() {
    return TIERD_REAL(cuMemAllocManaged) != nullptr && TIERD_REAL(cuMemAdvise_v2) != nullptr &&
           TIERD_REAL(cuMemPrefetchAsync_v2) != nullptr && TIERD_REAL(cuMemFree_v2) != nullptr &&
           TIERD_REAL(cuMemGetInfo_v2) != nullptr && TIERD_REAL(cuDeviceGetAttribute) != nullptr;
}

constexpr CUmemLocation kHome{CU_MEM_LOCATION_TYPE_HOST, {0}};

}  // namespace

bool Gpu::reserve_managed() {
    int concurrent = 0;
    size_t free_bytes = 0, total = 0;
    if (!has_managed_functions() ||
        TIERD_REAL(cuDeviceGetAttribute)(&concurrent, CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS,
                                         device_) != CUDA_SUCCESS ||
        concurrent == 0) {
        log_info() << "managed memory wants CUDA 12.2 and concurrent access: set TIERD_CUDA=elastic";
        return false;
    }
    if (TIERD_REAL(cuMemGetInfo_v2)(&free_bytes, &total) != CUDA_SUCCESS) return false;
    const uint64_t chunk_bytes = shim().config.chunk_bytes;
    uint64_t chunks = free_bytes > 0 ? (free_bytes - 1) / chunk_bytes : 0;
    CUdeviceptr base = 0;
    if (chunks < 2 ||
        TIERD_REAL(cuMemAllocManaged)(&base, chunks * chunk_bytes, CU_MEM_ATTACH_GLOBAL) != CUDA_SUCCESS)
        return false;
    managed_ = base;
    log_info() << "managed memory: " << chunks * chunk_bytes << " bytes, of " << free_bytes
               << " that are free";
    uint64_t first = round_up(base, chunk_bytes);
    if (first != base) chunks--;
    return range.prepare(first, static_cast<uint32_t>(chunks), chunk_bytes);
}

void Gpu::free_managed() {
    shim().gate.close();
    shim().gate.drain();
    TIERD_REAL(cuMemFree_v2)(managed_);
    managed_freed_ = true;
}

// What is recorded of the chunk becomes its bytes; then it goes to the GPU, behind whatever goes there already.
CUresult Gpu::bring_managed(uint32_t index) {
    Chunk& chunk = range.chunk(index);
    CUdeviceptr address = range.address_of(index);
    if (chunk.slices != kNone) {
        bool weights_alone = range.covered(index);
        if (CUresult result = write_slices(index); result != CUDA_SUCCESS) return result;
        if (weights_alone &&
            TIERD_REAL(cuMemAdvise_v2)(address, range.chunk_bytes(), CU_MEM_ADVISE_SET_READ_MOSTLY,
                                       memory_kind_.location) == CUDA_SUCCESS)
            chunk.memory = kReadMostly;
    }
    CUresult result =
        TIERD_REAL(cuMemPrefetchAsync_v2)(address, range.chunk_bytes(), memory_kind_.location, 0, fills_);
    if (result != CUDA_SUCCESS) return result;
    fills_pending_ = true;
    counters.chunks_filled++;
    return TIERD_REAL(cuEventRecord)(filled_, fills_);
}

CUresult Gpu::write_slices(uint32_t index) {
    auto* home = reinterpret_cast<char*>(range.address_of(index));
    for (uint32_t row = range.chunk(index).slices; row != kNone; row = range.slice(row).next) {
        const FileSlice& slice = range.slice(row);
        if (CUresult result = read_slice(slice, home + slice.begin); result != CUDA_SUCCESS) return result;
        counters.bytes_from_files += slice.length;
    }
    range.forget_slices(index);
    return CUDA_SUCCESS;
}

// Nothing runs that could reach them.
uint32_t Gpu::send_home(const uint32_t* victims, uint32_t count) {
    for (uint32_t i = 0; i < count; i++)
        (range.chunk(victims[i]).memory == kReadMostly ? counters.chunks_dropped : counters.chunks_saved)++;
    for (uint32_t i = 0; i < count; i++)
        if (TIERD_REAL(cuMemPrefetchAsync_v2)(range.address_of(victims[i]), range.chunk_bytes(), kHome, 0,
                                              fills_) != CUDA_SUCCESS)
            return 0;
    if (TIERD_REAL(cuStreamSynchronize)(fills_) != CUDA_SUCCESS) return 0;
    for (uint32_t i = 0; i < count; i++) range.change(victims[i], ChunkEvent::drop);
    return count;
}

// The engine has freed it: it leaves the GPU, and what comes there next may be written to.
void Gpu::release_managed(uint32_t index) {
    Chunk& chunk = range.chunk(index);
    if (managed_freed_) return;
    CUdeviceptr address = range.address_of(index);
    if (chunk.memory == kReadMostly)
        TIERD_REAL(cuMemAdvise_v2)(address, range.chunk_bytes(), CU_MEM_ADVISE_UNSET_READ_MOSTLY,
                                   memory_kind_.location);
    TIERD_REAL(cuMemPrefetchAsync_v2)(address, range.chunk_bytes(), kHome, 0, fills_);
    chunk.memory = 0;
}

}  // namespace tierd::shim::cuda
