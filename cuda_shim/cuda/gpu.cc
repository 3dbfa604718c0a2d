#include "cuda_shim/cuda/gpu.h"

#include <new>

#include "cuda_shim/cuda/context_guard.h"

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

bool Gpu::set_up() {
    CUcontext current = has_functions() ? driver::current_context() : nullptr;
    if (current == nullptr || !driver::ok(TIERD_REAL(cuCtxGetDevice)(&device_))) return false;
    size_t total = 0;
    if (!driver::ok(TIERD_REAL(cuDeviceTotalMem_v2)(&total, device_))) return false;
    total_bytes_ = total;
    if (auto* uuid = TIERD_REAL(cuDeviceGetUuid)) uuid(&uuid_, device_);
    context_ = current;
    backing_ = config_.mode == Mode::uvm ? static_cast<ChunkBacking*>(&managed_) : &vmm_;
    residency.prepare(context_, backing_);
    if (backing_->reserve(device_, total_bytes_, config_.chunk_bytes) && streams_.prepare() &&
        in_flight.prepare(context_) && backing_->prepare())
        return true;
    tear_down();
    return false;
}

// Without tierd, what others have may be all theirs to keep: then the limit is the answer.
uint64_t Gpu::available_bytes(uint64_t enough_bytes) {
    size_t free_bytes = 0, total = 0;
    if (backing_->is_reserved() || lease_.is_lost() || TIERD_REAL(cuMemGetInfo_v2) == nullptr)
        return limit_bytes();
    ContextGuard guard(context_);
    if (!driver::memory_info(&free_bytes, &total)) return total_bytes_;
    uint64_t available = free_bytes + range.bytes_of(range.resident_chunks());
    if (available < enough_bytes) available += lease_.others_bytes();
    return available < total_bytes_ ? available : total_bytes_;
}

// As in CUDA, an allocation is refused when no launch could ever have it.
bool Gpu::has_room(uint64_t chunks) {
    uint64_t wanted = range.bytes_of(range.allocated_chunks() + chunks);
    uint64_t own = config_.limit_bytes;
    if (wanted > limit_bytes() || (own != 0 && range.bytes_of(chunks) > own)) return false;
    return wanted <= available_bytes(wanted);
}

CUresult Gpu::allocate(uint64_t bytes, CUdeviceptr* address) {
    if (!has_room(range.chunks_for(bytes))) return CUDA_ERROR_OUT_OF_MEMORY;
    uint32_t allocation = range.allocate(bytes);
    if (allocation == kNone) return CUDA_ERROR_OUT_OF_MEMORY;
    *address = range.address_of(range.allocation(allocation).first);
    residency.update_gate();
    return CUDA_SUCCESS;
}

CUresult Gpu::free_allocation(uint32_t row) {
    ContextGuard guard(context_);
    CUresult ended = driver::synchronize_context();
    const Allocation allocation = range.allocation(row);
    for (uint32_t i = allocation.first; i < allocation.first + allocation.chunks; i++) {
        if (range.chunk(i).resident()) backing_->unmap(i);
        backing_->discard_image(i);
    }
    counters.chunks_freed += allocation.chunks;
    range.release(row);
    residency.update_gate();
    return ended;
}

void Gpu::tear_down() {
    ContextGuard guard(context_);
    driver::synchronize_context();
    backing_->end_context();
    abandon();
}

// The memory of chunks is the device's; streams, events, modules and pinned memory went with the context.
void Gpu::abandon() {
    gate_.close();
    gate_.drain();
    if (backing_ != nullptr) backing_->abandon();
    range.discard();
    reset();
}

void Gpu::reset() {
    const GpuCounters kept = counters;
    new (this) Gpu(config_, lease_, gate_, sources_);
    counters = kept;
}

CUresult Gpu::open_to(CUdevice device) {
    AccessSet all;
    all.everything = true;
    CUresult result = residency.pin(all, Waiter{});
    return driver::ok(result) ? backing_->open_to(device) : result;
}

CUresult Gpu::defer_copy(const FileCopy& copy, const Waiter& waiting) {
    ContextGuard guard(context_);
    const uint64_t chunk_bytes = range.chunk_bytes();
    for (uint64_t done = 0; done < copy.length_bytes;) {
        uint32_t chunk = range.chunk_at(copy.to + done);
        uint64_t begin = copy.to + done - range.address_of(chunk), left = copy.length_bytes - done;
        uint64_t part = chunk_bytes - begin < left ? chunk_bytes - begin : left;
        FileCopy part_copy{copy.to + done, part, copy.file, copy.offset_bytes + done, copy.source + done};
        if (range.chunk(chunk).state == ChunkState::absent &&
            range.record(chunk, static_cast<uint32_t>(begin), static_cast<uint32_t>(part), part_copy.file,
                         part_copy.offset_bytes))
            counters.bytes_deferred += part;
        else if (CUresult result = copy_now(part_copy, chunk, waiting); !driver::ok(result))
            return result;
        done += part;
    }
    return CUDA_SUCCESS;
}

CUresult Gpu::copy_now(const FileCopy& copy, uint32_t chunk, const Waiter& waiting) {
    AccessSet access;
    access.add(range.chunk(chunk).owner, chunk, chunk + 1);
    if (CUresult result = residency.make_resident(access, waiting); !driver::ok(result)) return result;
    uint64_t fence = in_flight.begin(range, access, waiting.stream);
    CUresult result = waiting.has_stream
                          ? driver::copy_to_device(copy.to, copy.source, copy.length_bytes, waiting.stream)
                          : TIERD_REAL(cuMemcpyHtoD_v2)(copy.to, copy.source, copy.length_bytes);
    if (fence != 0) in_flight.launched(fence);
    return result;
}

}  // namespace tierd::shim::cuda
