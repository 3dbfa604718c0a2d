#include "cuda_shim/cuda/vmm_backing.h"

#include "cuda_shim/host/log.h"

// There is no C++ runtime to bring it.
extern "C" void __cxa_pure_virtual() {
    __builtin_trap();
}

namespace tierd::shim::cuda {

// Twice the GPU's memory of addresses: what is allocated at once never exceeds the GPU, the rest is for holes.
bool VmmBacking::reserve(CUdevice device, uint64_t total_bytes, uint64_t chunk_bytes) {
    device_ = device;
    total_bytes_ = total_bytes;
    kind_.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    kind_.location = {CU_MEM_LOCATION_TYPE_DEVICE, {device}};
    size_t granularity = 0;
    if (!driver::ok(TIERD_REAL(cuMemGetAllocationGranularity)(&granularity, &kind_,
                                                              CU_MEM_ALLOC_GRANULARITY_MINIMUM)) ||
        granularity == 0 || chunk_bytes % granularity != 0)
        return false;
    uint32_t chunks = static_cast<uint32_t>(2 * total_bytes / chunk_bytes);
    CUdeviceptr base = 0;
    if (!driver::reserve(&base, chunks * chunk_bytes, chunk_bytes)) return false;
    if (range_.prepare(base, chunks, chunk_bytes)) return true;
    driver::free_range(base, chunks * chunk_bytes);
    return false;
}

bool VmmBacking::prepare() {
    if (!store_.prepare()) return false;
    if (!verifier_.prepare())
        log_info() << "no hash kernel on this GPU: chunks are always spilled before they are evicted";
    return true;
}

CUresult VmmBacking::create(uint32_t chunk) {
    CUmemGenericAllocationHandle memory = 0;
    CUresult result = driver::create(&memory, range_.chunk_bytes(), kind_);
    if (driver::ok(result)) range_.chunk(chunk).memory = memory;
    return result;
}

CUresult VmmBacking::map(uint32_t index) {
    Chunk& chunk = range_.chunk(index);
    CUresult result = driver::map(range_.address_of(index), range_.chunk_bytes(), chunk.memory, device_);
    if (driver::ok(result)) return result;
    driver::release(chunk.memory);
    chunk.memory = 0;
    return result;
}

// A chunk without an image is hashed too: one that is never written to need not be spilled.
CUresult VmmBacking::fill(uint32_t chunk, ChunkEvent* event) {
    const bool hashed = verifier_.is_ready();
    *event = hashed ? ChunkEvent::fill : ChunkEvent::map;
    if (!hashed && !range_.chunk(chunk).has_image()) return CUDA_SUCCESS;
    if (CUresult result = store_.start_fill(chunk); !driver::ok(result)) return result;
    if (hashed)
        if (CUresult result = verifier_.remember(chunk); !driver::ok(result)) return result;
    counters_.chunks_filled++;
    return streams_.add_fill(streams_.hashes());
}

// Chunks that can't be spilled stay.
uint32_t VmmBacking::evict(const uint32_t* victims, uint32_t count) {
    bool equal[kMaxVictims] = {};
    bool spilled[kMaxVictims] = {};
    if (!verifier_.verify_clean(victims, count, equal) || !spill(victims, count, equal, spilled)) return 0;
    Stopwatch watch(counters_.return_ns);
    uint32_t gone = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (!equal[i] && !spilled[i]) continue;
        if (spilled[i]) range_.forget_slices(victims[i]);
        (equal[i] ? counters_.chunks_dropped : counters_.chunks_saved)++;
        unmap(victims[i]);
        range_.change(victims[i], ChunkEvent::evict);
        history_.record_eviction(range_.allocation(range_.chunk(victims[i]).owner));
        gone++;
    }
    return gone;
}

// Copies those that differ from their image to pinned memory, and waits for the copies.
bool VmmBacking::spill(const uint32_t* victims, uint32_t count, const bool* equal, bool* spilled) {
    Stopwatch watch(counters_.save_ns);
    for (uint32_t i = 0; i < count; i++) spilled[i] = !equal[i] && store_.start_spill(victims[i]);
    return driver::ok(driver::synchronize(streams_.copies()));
}

void VmmBacking::unmap(uint32_t index) {
    Chunk& chunk = range_.chunk(index);
    driver::unmap(range_.address_of(index), range_.chunk_bytes());
    driver::release(chunk.memory);
    chunk.memory = 0;
}

void VmmBacking::abandon() {
    if (range_.base() == 0) return;
    for (uint32_t i = 0; i < range_.chunk_count(); i++)
        if (range_.chunk(i).resident()) unmap(i);
    driver::free_range(range_.base(), range_.length_bytes());
}

CUresult VmmBacking::open_to(CUdevice device) {
    CUresult result = CUDA_SUCCESS;
    for (uint32_t row = 0; row < range_.allocation_rows() && driver::ok(result); row++) {
        const Allocation& allocation = range_.allocation(row);
        for (uint32_t i = allocation.first; i < allocation.first + allocation.chunks; i++)
            result = driver::set_access(range_.address_of(i), range_.chunk_bytes(), device);
    }
    return result;
}

}  // namespace tierd::shim::cuda
