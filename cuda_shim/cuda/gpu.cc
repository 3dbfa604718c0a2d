#include "cuda_shim/cuda/gpu.h"

#include <string.h>

#include "cuda_shim/cuda/context_guard.h"
#include "cuda_shim/cuda/shim.h"
#include "cuda_shim/host/log.h"

namespace tierd::shim::cuda {

bool Gpu::has_functions() const {
    constexpr Entry kNeeded[] = {Entry::cuCtxGetCurrent,
                                 Entry::cuCtxPushCurrent_v2,
                                 Entry::cuCtxPopCurrent_v2,
                                 Entry::cuCtxGetDevice,
                                 Entry::cuCtxSynchronize,
                                 Entry::cuDeviceTotalMem_v2,
                                 Entry::cuMemAddressReserve,
                                 Entry::cuMemAddressFree,
                                 Entry::cuMemCreate,
                                 Entry::cuMemRelease,
                                 Entry::cuMemMap,
                                 Entry::cuMemUnmap,
                                 Entry::cuMemSetAccess,
                                 Entry::cuMemHostAlloc,
                                 Entry::cuMemFreeHost,
                                 Entry::cuStreamCreate,
                                 Entry::cuStreamWaitEvent,
                                 Entry::cuStreamSynchronize,
                                 Entry::cuEventCreate,
                                 Entry::cuEventRecord,
                                 Entry::cuEventQuery,
                                 Entry::cuEventSynchronize,
                                 Entry::cuMemcpyHtoDAsync_v2,
                                 Entry::cuMemcpyDtoHAsync_v2,
                                 Entry::cuMemGetAllocationGranularity};
    for (Entry entry : kNeeded)
        if (function_at(static_cast<uint32_t>(entry)) == nullptr) return false;
    return true;
}

bool Gpu::is_current() const {
    CUcontext current = nullptr;
    return TIERD_REAL(cuCtxGetCurrent)(&current) == CUDA_SUCCESS && current == context_;
}

bool Gpu::set_up() {
    CUcontext current = nullptr;
    if (!has_functions() || TIERD_REAL(cuCtxGetCurrent)(&current) != CUDA_SUCCESS || current == nullptr)
        return false;
    if (TIERD_REAL(cuCtxGetDevice)(&device_) != CUDA_SUCCESS) return false;
    size_t total = 0;
    if (TIERD_REAL(cuDeviceTotalMem_v2)(&total, device_) != CUDA_SUCCESS) return false;
    total_bytes_ = total;
    if (auto* uuid = TIERD_REAL(cuDeviceGetUuid)) uuid(&uuid_, device_);
    memory_kind_ = {};
    memory_kind_.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    memory_kind_.location = {CU_MEM_LOCATION_TYPE_DEVICE, {device_}};
    context_ = current;
    if (reserve_window() && make_streams()) {
        if (managed_ == 0 && !make_hash())
            log_info() << "no hash kernel on this GPU: memory is always saved before it is taken";
        return true;
    }
    tear_down();
    return false;
}

// Twice the GPU's memory of addresses: what is allocated at once never exceeds the GPU, the rest is for its holes.
bool Gpu::reserve_window() {
    if (shim().config.mode == Mode::uvm) return reserve_managed();
    size_t granularity = 0;
    uint64_t chunk_bytes = shim().config.chunk_bytes;
    if (TIERD_REAL(cuMemGetAllocationGranularity)(&granularity, &memory_kind_,
                                                  CU_MEM_ALLOC_GRANULARITY_MINIMUM) != CUDA_SUCCESS ||
        granularity == 0 || chunk_bytes % granularity != 0)
        return false;
    uint32_t chunks = static_cast<uint32_t>(2 * total_bytes_ / chunk_bytes);
    CUdeviceptr base = 0;
    if (TIERD_REAL(cuMemAddressReserve)(&base, chunks * chunk_bytes, chunk_bytes, 0, 0) != CUDA_SUCCESS)
        return false;
    if (range.prepare(base, chunks, chunk_bytes)) return true;
    TIERD_REAL(cuMemAddressFree)(base, chunks * chunk_bytes);
    return false;
}

bool Gpu::make_streams() {
    if (TIERD_REAL(cuStreamCreate)(&fills_, CU_STREAM_NON_BLOCKING) != CUDA_SUCCESS ||
        TIERD_REAL(cuStreamCreate)(&hashes_, CU_STREAM_NON_BLOCKING) != CUDA_SUCCESS ||
        TIERD_REAL(cuEventCreate)(&filled_, CU_EVENT_DISABLE_TIMING) != CUDA_SUCCESS ||
        !in_flight.prepare(context_))
        return false;
    for (Stage& stage : stages_) {
        void* buffer = nullptr;
        if (TIERD_REAL(cuMemHostAlloc)(&buffer, range.chunk_bytes(), CU_MEMHOSTALLOC_PORTABLE) !=
                CUDA_SUCCESS ||
            TIERD_REAL(cuEventCreate)(&stage.copied, CU_EVENT_DISABLE_TIMING) != CUDA_SUCCESS)
            return false;
        stage.buffer = static_cast<char*>(buffer);
    }
    return true;
}

bool Gpu::make_hash() {
    uint32_t chunks = range.chunk_count();
    CUmodule module = nullptr;
    void* seen = nullptr;
    if (TIERD_REAL(cuModuleLoadData) == nullptr || TIERD_REAL(cuModuleGetFunction) == nullptr ||
        TIERD_REAL(cuLaunchKernel) == nullptr || TIERD_REAL(cuMemAlloc_v2) == nullptr ||
        TIERD_REAL(cuMemsetD8Async) == nullptr)
        return false;
    if (sys::call(SYS_getrandom, &key_, sizeof key_, 0) != sizeof key_) return false;
    if (TIERD_REAL(cuModuleLoadData)(&module, tierd_hash_ptx) != CUDA_SUCCESS ||
        TIERD_REAL(cuMemAlloc_v2)(&sums_, chunks * sizeof(Hash)) != CUDA_SUCCESS ||
        TIERD_REAL(cuMemAlloc_v2)(&proofs_, chunks * sizeof(Hash)) != CUDA_SUCCESS ||
        TIERD_REAL(cuMemHostAlloc)(&seen, 2 * chunks * sizeof(Hash), CU_MEMHOSTALLOC_PORTABLE) !=
            CUDA_SUCCESS)
        return false;
    seen_sums_ = static_cast<Hash*>(seen);
    seen_proofs_ = seen_sums_ + chunks;
    if (TIERD_REAL(cuModuleGetFunction)(&hash_, module, kHashKernel) == CUDA_SUCCESS) return true;
    hash_ = nullptr;
    return false;
}

// Without tierd nobody says what others would give back: then it may be all that they have.
uint64_t Gpu::room_bytes(uint64_t enough_bytes) {
    size_t free_bytes = 0, total = 0;
    auto* ask = TIERD_REAL(cuMemGetInfo_v2);
    if (managed_ != 0 || shim().lease.is_lost() || ask == nullptr) return limit_bytes();
    ContextGuard guard(context_);
    if (ask(&free_bytes, &total) != CUDA_SUCCESS) return total_bytes_;
    uint64_t room = free_bytes + range.bytes_of(range.resident_chunks());
    if (room < enough_bytes) room += shim().lease.others_bytes();
    return room < total_bytes_ ? room : total_bytes_;
}

// As CUDA, an allocation is refused when no launch could ever have it: the GPU is full of what nobody can take away.
bool Gpu::has_room(uint64_t chunks) {
    uint64_t wanted = range.bytes_of(range.allocated_chunks() + chunks);
    uint64_t own = shim().config.limit_bytes;
    if (wanted > limit_bytes() || (own != 0 && range.bytes_of(chunks) > own)) return false;
    return wanted <= room_bytes(wanted);
}

CUresult Gpu::allocate(uint64_t bytes, CUdeviceptr* address) {
    uint64_t chunks = range.chunks_for(bytes);
    if (!has_room(chunks)) return CUDA_ERROR_OUT_OF_MEMORY;
    uint32_t allocation = range.allocate(bytes);
    if (allocation == kNone) return CUDA_ERROR_OUT_OF_MEMORY;
    *address = range.address_of(range.allocation(allocation).first);
    update_gate();
    return CUDA_SUCCESS;
}

CUresult Gpu::free_allocation(uint32_t row) {
    ContextGuard guard(context_);
    CUresult ended = TIERD_REAL(cuCtxSynchronize)();
    const Allocation allocation = range.allocation(row);
    for (uint32_t i = allocation.first; i < allocation.first + allocation.chunks; i++) {
        if (range.chunk(i).resident()) return_memory(i);
        if (range.chunk(i).saved != 0) give_saved(range.chunk(i).saved);
    }
    counters.chunks_freed += allocation.chunks;
    range.release(row);
    update_gate();
    return ended;
}

void Gpu::tear_down() {
    ContextGuard guard(context_);
    TIERD_REAL(cuCtxSynchronize)();
    if (managed_ != 0) free_managed();
    abandon();
}

// The memory of chunks is the device's; streams, events, modules and pinned memory went with the context.
void Gpu::abandon() {
    shim().gate.close();
    shim().gate.drain();
    uint32_t chunks = range.chunk_count();
    managed_freed_ = managed_ != 0;  // at the latest with the context
    if (range.base() != 0) {
        for (uint32_t i = 0; i < chunks; i++)
            if (range.chunk(i).resident()) return_memory(i);
        if (managed_ == 0) TIERD_REAL(cuMemAddressFree)(range.base(), range.bytes_of(chunks));
        range.discard();
    }
    GpuCounters kept = counters;
    *this = Gpu{};
    counters = kept;
}

CUresult Gpu::open_to(CUdevice device) {
    AccessSet all;
    all.everything = true;
    CUmemAccessDesc access{{CU_MEM_LOCATION_TYPE_DEVICE, {device}}, CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
    CUresult result = pin(all, Waiter{});
    for (uint32_t row = 0; row < range.allocation_rows() && result == CUDA_SUCCESS && managed_ == 0; row++) {
        const Allocation& allocation = range.allocation(row);
        for (uint32_t i = allocation.first; i < allocation.first + allocation.chunks; i++)
            result = TIERD_REAL(cuMemSetAccess)(range.address_of(i), range.chunk_bytes(), &access, 1);
    }
    return result;
}

uint32_t Gpu::pinned_chunks() const {
    uint32_t pinned = 0;
    for (uint32_t i = 0; i < range.allocation_rows(); i++) {
        const Allocation& row = range.allocation(i);
        if (row.bytes != 0 && row.pinned) pinned += row.chunks - row.absent;
    }
    return pinned;
}

void Gpu::update_gate() {
    Gate& gate = shim().gate;
    if (fills_pending_ && TIERD_REAL(cuEventQuery)(filled_) == CUDA_SUCCESS) fills_pending_ = false;
    if (range.absent_chunks() != 0 || fills_pending_) return gate.close();
    in_flight.unseen();  // what goes through it
    gate.open();
}

CUresult Gpu::defer_copy(uint64_t address, uint64_t length, uint32_t file, uint64_t offset_bytes,
                         const char* source, const Waiter& waiting) {
    ContextGuard guard(context_);
    const uint64_t chunk_bytes = range.chunk_bytes();
    for (uint64_t done = 0; done < length;) {
        uint32_t chunk = range.chunk_at(address + done);
        uint64_t begin = address + done - range.address_of(chunk);
        uint64_t part = chunk_bytes - begin < length - done ? chunk_bytes - begin : length - done;
        bool recorded = range.chunk(chunk).state == ChunkState::absent &&
                        range.record(chunk, static_cast<uint32_t>(begin), static_cast<uint32_t>(part), file,
                                     offset_bytes + done);
        if (recorded) {
            counters.bytes_deferred += part;
        } else {
            AccessSet access;
            access.add(range.chunk(chunk).owner, chunk, chunk + 1);
            if (CUresult result = bring(access, waiting); result != CUDA_SUCCESS) return result;
            uint64_t fence = in_flight.begin(range, access, waiting.stream);
            CUresult result =
                waiting.has_stream
                    ? TIERD_REAL(cuMemcpyHtoDAsync_v2)(address + done, source + done, part, waiting.stream)
                    : TIERD_REAL(cuMemcpyHtoD_v2)(address + done, source + done, part);
            if (fence != 0) in_flight.launched(fence);
            if (result != CUDA_SUCCESS) return result;
        }
        done += part;
    }
    return CUDA_SUCCESS;
}

}  // namespace tierd::shim::cuda
