#include "cuda_shim/cuda/managed_backing.h"

#include "cuda_shim/host/log.h"

namespace tierd::shim::cuda {

namespace {

constexpr uint64_t kReadMostly = 1;  // a chunk's `memory`: it was advised so
constexpr CUmemLocation kHost{CU_MEM_LOCATION_TYPE_HOST, {0}};

bool has_managed_functions() {
    return TIERD_REAL(cuMemAllocManaged) != nullptr && TIERD_REAL(cuMemAdvise_v2) != nullptr &&
           TIERD_REAL(cuMemPrefetchAsync_v2) != nullptr && TIERD_REAL(cuMemFree_v2) != nullptr &&
           TIERD_REAL(cuMemGetInfo_v2) != nullptr && TIERD_REAL(cuDeviceGetAttribute) != nullptr;
}

}  // namespace

bool ManagedBacking::reserve(CUdevice device, uint64_t, uint64_t chunk_bytes) {
    int concurrent = 0;
    size_t free_bytes = 0, total = 0;
    device_ = {CU_MEM_LOCATION_TYPE_DEVICE, {device}};
    if (!has_managed_functions() ||
        !driver::ok(TIERD_REAL(cuDeviceGetAttribute)(
            &concurrent, CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS, device)) ||
        concurrent == 0) {
        log_info() << "managed memory wants CUDA 12.2 and concurrent access: set TIERD_CUDA=elastic";
        return false;
    }
    if (!driver::memory_info(&free_bytes, &total)) return false;
    uint64_t chunks = free_bytes > 0 ? (free_bytes - 1) / chunk_bytes : 0;
    if (chunks < 2 ||
        !driver::ok(TIERD_REAL(cuMemAllocManaged)(&base_, chunks * chunk_bytes, CU_MEM_ATTACH_GLOBAL)))
        return false;
    log_info() << "managed memory: " << chunks * chunk_bytes << " bytes, of " << free_bytes
               << " that are free";
    uint64_t first = round_up(base_, chunk_bytes);
    if (first != base_) chunks--;
    return range_.prepare(first, static_cast<uint32_t>(chunks), chunk_bytes);
}

void ManagedBacking::end_context() {
    gate_.close();
    gate_.drain();
    if (base_ != 0) TIERD_REAL(cuMemFree_v2)(base_);
    base_ = 0;
}

// The slices recorded for the chunk become its bytes; then it is prefetched to the GPU, behind the prefetches before.
CUresult ManagedBacking::map(uint32_t index) {
    Chunk& chunk = range_.chunk(index);
    CUdeviceptr address = range_.address_of(index);
    if (chunk.slices != kNone) {
        bool weights_alone = range_.covered(index);
        if (CUresult result = write_slices(index); !driver::ok(result)) return result;
        if (weights_alone &&
            driver::ok(driver::advise(address, range_.chunk_bytes(), CU_MEM_ADVISE_SET_READ_MOSTLY, device_)))
            chunk.memory = kReadMostly;
    }
    CUresult result = driver::prefetch(address, range_.chunk_bytes(), device_, streams_.copies());
    if (!driver::ok(result)) return result;
    counters_.chunks_filled++;
    return streams_.add_fill(streams_.copies());
}

CUresult ManagedBacking::fill(uint32_t, ChunkEvent* event) {
    *event = ChunkEvent::map;
    return CUDA_SUCCESS;
}

CUresult ManagedBacking::write_slices(uint32_t index) {
    auto* host = reinterpret_cast<char*>(range_.address_of(index));
    for (uint32_t row = range_.chunk(index).slices; row != kNone; row = range_.slice(row).next) {
        const FileSlice& slice = range_.slice(row);
        if (CUresult result = store_.read(slice, host + slice.begin); !driver::ok(result)) return result;
        counters_.bytes_from_files += slice.length;
    }
    range_.forget_slices(index);
    return CUDA_SUCCESS;
}

uint32_t ManagedBacking::evict(const uint32_t* victims, uint32_t count) {
    CUstream stream = streams_.copies();
    for (uint32_t i = 0; i < count; i++)
        (range_.chunk(victims[i]).memory == kReadMostly ? counters_.chunks_dropped
                                                        : counters_.chunks_saved)++;
    for (uint32_t i = 0; i < count; i++)
        if (!driver::ok(driver::prefetch(range_.address_of(victims[i]), range_.chunk_bytes(), kHost, stream)))
            return 0;
    if (!driver::ok(driver::synchronize(stream))) return 0;
    for (uint32_t i = 0; i < count; i++) range_.change(victims[i], ChunkEvent::evict);
    return count;
}

// The next bytes of the chunk may be written to.
void ManagedBacking::unmap(uint32_t index) {
    Chunk& chunk = range_.chunk(index);
    if (base_ == 0) return;
    CUdeviceptr address = range_.address_of(index);
    if (chunk.memory == kReadMostly)
        driver::advise(address, range_.chunk_bytes(), CU_MEM_ADVISE_UNSET_READ_MOSTLY, device_);
    driver::prefetch(address, range_.chunk_bytes(), kHost, streams_.copies());
    chunk.memory = 0;
}

}  // namespace tierd::shim::cuda
