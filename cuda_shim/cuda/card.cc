#include "cuda_shim/cuda/card.h"

#include <string.h>

#include "cuda_shim/cuda/current.h"
#include "cuda_shim/cuda/shim.h"
#include "cuda_shim/host/log.h"

namespace tierd::shim::cuda {

bool Card::has_functions() const {
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

bool Card::is_current() const {
    CUcontext current = nullptr;
    return TIERD_REAL(cuCtxGetCurrent)(&current) == CUDA_SUCCESS && current == context_;
}

bool Card::set_up() {
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
            log_info() << "no hash kernel on this card: memory is always saved before it is taken";
        return true;
    }
    tear_down();
    return false;
}

// Twice the card's memory of addresses: what is allocated at once never exceeds the card, the rest is for its holes.
bool Card::reserve_window() {
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
    if (window.prepare(base, chunks, chunk_bytes)) return true;
    TIERD_REAL(cuMemAddressFree)(base, chunks * chunk_bytes);
    return false;
}

bool Card::make_streams() {
    if (TIERD_REAL(cuStreamCreate)(&fills_, CU_STREAM_NON_BLOCKING) != CUDA_SUCCESS ||
        TIERD_REAL(cuStreamCreate)(&hashes_, CU_STREAM_NON_BLOCKING) != CUDA_SUCCESS ||
        TIERD_REAL(cuEventCreate)(&filled_, CU_EVENT_DISABLE_TIMING) != CUDA_SUCCESS ||
        !uses.prepare(context_))
        return false;
    for (Stage& stage : stages_) {
        void* buffer = nullptr;
        if (TIERD_REAL(cuMemHostAlloc)(&buffer, window.chunk_bytes(), CU_MEMHOSTALLOC_PORTABLE) !=
                CUDA_SUCCESS ||
            TIERD_REAL(cuEventCreate)(&stage.copied, CU_EVENT_DISABLE_TIMING) != CUDA_SUCCESS)
            return false;
        stage.buffer = static_cast<char*>(buffer);
    }
    return true;
}

bool Card::make_hash() {
    uint32_t chunks = window.chunk_count();
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
uint64_t Card::room_bytes(uint64_t enough_bytes) {
    size_t free_bytes = 0, total = 0;
    auto* ask = TIERD_REAL(cuMemGetInfo_v2);
    if (managed_ != 0 || shim().lease.is_lost() || ask == nullptr) return most_bytes();
    Current current(context_);
    if (ask(&free_bytes, &total) != CUDA_SUCCESS) return total_bytes_;
    uint64_t room = free_bytes + window.bytes_of(window.resident_chunks());
    if (room < enough_bytes) room += shim().lease.others_bytes();
    return room < total_bytes_ ? room : total_bytes_;
}

// As CUDA, an allocation is refused when no launch could ever have it: the card is full of what nobody can take away.
bool Card::has_room(uint64_t chunks) {
    uint64_t wanted = window.bytes_of(window.allocated_chunks() + chunks);
    uint64_t own = shim().config.limit_bytes;
    if (wanted > most_bytes() || (own != 0 && window.bytes_of(chunks) > own)) return false;
    return wanted <= room_bytes(wanted);
}

CUresult Card::allocate(uint64_t bytes, CUdeviceptr* address) {
    uint64_t chunks = window.chunks_for(bytes);
    if (!has_room(chunks)) return CUDA_ERROR_OUT_OF_MEMORY;
    uint32_t allocation = window.allocate(bytes);
    if (allocation == kNone) return CUDA_ERROR_OUT_OF_MEMORY;
    *address = window.address_of(window.allocation(allocation).first);
    settle_gate();
    return CUDA_SUCCESS;
}

CUresult Card::free_allocation(uint32_t row) {
    Current current(context_);
    CUresult ended = TIERD_REAL(cuCtxSynchronize)();
    const Allocation allocation = window.allocation(row);
    for (uint32_t i = allocation.first; i < allocation.first + allocation.chunks; i++) {
        if (window.chunk(i).resident()) return_memory(i);
        if (window.chunk(i).saved != 0) give_saved(window.chunk(i).saved);
    }
    counters.chunks_freed += allocation.chunks;
    window.release(row);
    settle_gate();
    return ended;
}

void Card::tear_down() {
    Current current(context_);
    TIERD_REAL(cuCtxSynchronize)();
    if (managed_ != 0) free_managed();
    abandon();
}

// The memory of chunks is the device's; streams, events, modules and pinned memory went with the context.
void Card::abandon() {
    shim().gate.close();
    shim().gate.drain();
    uint32_t chunks = window.chunk_count();
    managed_freed_ = managed_ != 0;  // at the latest with the context
    if (window.base() != 0) {
        for (uint32_t i = 0; i < chunks; i++)
            if (window.chunk(i).resident()) return_memory(i);
        if (managed_ == 0) TIERD_REAL(cuMemAddressFree)(window.base(), window.bytes_of(chunks));
        window.discard();
    }
    CardCounters kept = counters;
    *this = Card{};
    counters = kept;
}

CUresult Card::open_to(CUdevice device) {
    Reach reach;
    reach.everything = true;
    CUmemAccessDesc access{{CU_MEM_LOCATION_TYPE_DEVICE, {device}}, CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
    CUresult result = pin(reach, Waiting{});
    for (uint32_t row = 0; row < window.allocation_rows() && result == CUDA_SUCCESS && managed_ == 0; row++) {
        const Allocation& allocation = window.allocation(row);
        for (uint32_t i = allocation.first; i < allocation.first + allocation.chunks; i++)
            result = TIERD_REAL(cuMemSetAccess)(window.address_of(i), window.chunk_bytes(), &access, 1);
    }
    return result;
}

uint32_t Card::pinned_chunks() const {
    uint32_t pinned = 0;
    for (uint32_t i = 0; i < window.allocation_rows(); i++) {
        const Allocation& row = window.allocation(i);
        if (row.bytes != 0 && row.pinned) pinned += row.chunks - row.absent;
    }
    return pinned;
}

void Card::settle_gate() {
    Gate& gate = shim().gate;
    if (fills_pending_ && TIERD_REAL(cuEventQuery)(filled_) == CUDA_SUCCESS) fills_pending_ = false;
    if (window.absent_chunks() != 0 || fills_pending_) return gate.close();
    uses.unseen();  // what goes through it
    gate.open();
}

CUresult Card::defer_copy(uint64_t address, uint64_t length, uint32_t file, uint64_t offset_bytes,
                          const char* source, const Waiting& waiting) {
    Current current(context_);
    const uint64_t chunk_bytes = window.chunk_bytes();
    for (uint64_t done = 0; done < length;) {
        uint32_t chunk = window.chunk_at(address + done);
        uint64_t begin = address + done - window.address_of(chunk);
        uint64_t part = chunk_bytes - begin < length - done ? chunk_bytes - begin : length - done;
        bool recorded = window.chunk(chunk).state == ChunkState::absent &&
                        window.record(chunk, static_cast<uint32_t>(begin), static_cast<uint32_t>(part), file,
                                      offset_bytes + done);
        if (recorded) {
            counters.bytes_deferred += part;
        } else {
            Reach reach;
            reach.add(window.chunk(chunk).owner, chunk, chunk + 1);
            if (CUresult result = bring(reach, waiting); result != CUDA_SUCCESS) return result;
            uint64_t ticket = uses.begin(window, reach, waiting.stream);
            CUresult result =
                waiting.has_stream
                    ? TIERD_REAL(cuMemcpyHtoDAsync_v2)(address + done, source + done, part, waiting.stream)
                    : TIERD_REAL(cuMemcpyHtoD_v2)(address + done, source + done, part);
            if (ticket != 0) uses.launched(ticket);
            if (result != CUDA_SUCCESS) return result;
        }
        done += part;
    }
    return CUDA_SUCCESS;
}

}  // namespace tierd::shim::cuda
