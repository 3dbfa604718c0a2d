// residency.cc - the way into the GPU's memory: room, memory, bytes and their hash. See gpu.h.
#include <string.h>

#include "cuda_shim/cuda/context_guard.h"
#include "cuda_shim/cuda/shim.h"
#include "cuda_shim/host/log.h"

namespace tierd::shim::cuda {

uint32_t Gpu::absent_in(const AccessSet::Part& part) const {
    const Allocation& allocation = range.allocation(part.allocation);
    if (allocation.absent == 0 || part.end - part.first == allocation.chunks) return allocation.absent;
    uint32_t absent = 0;
    for (uint32_t chunk = part.first; chunk < part.end; chunk++)
        absent += range.chunk(chunk).state == ChunkState::absent ? 1 : 0;
    return absent;
}

uint32_t Gpu::absent_in(const AccessSet& access) const {
    if (access.everything) return range.absent_chunks();
    uint32_t absent = 0;
    for (uint32_t i = 0; i < access.count; i++) absent += absent_in(access.parts[i]);
    return absent;
}

void Gpu::note_use(const AccessSet& access) {
    constexpr uint64_t kSteadyCalls = 4;
    calls_++;
    for (uint32_t i = 0; i < access.count; i++) {
        uint32_t row = access.parts[i].allocation;
        Allocation& allocation = range.allocation(row);
        // What nearly every launch uses says nothing of the order.
        if (allocation.used_at == 0 || calls_ - allocation.used_at > kSteadyCalls) ahead_.learn(range, row);
        if (allocation.ahead) {
            allocation.ahead = false;
            counters.chunks_ahead_used += allocation.chunks - allocation.absent;
            ahead_.outcome(true, calls_);
        }
        if (allocation.used_at != 0) allocation.period = calls_ - allocation.used_at;
        allocation.used_at = calls_;
    }
}

// How much this process may have of the GPU now, in chunks.
uint32_t Gpu::limit() const {
    uint64_t limit_bytes = shim().lease.granted_bytes();
    uint64_t own = shim().config.limit_bytes;
    if (own != 0 && own < limit_bytes) limit_bytes = own;
    uint64_t chunks = limit_bytes / range.chunk_bytes();
    return chunks < kNone ? static_cast<uint32_t>(chunks) : kNone;
}

// What has to be in the GPU's memory at once for these: they, and what is pinned.
uint32_t Gpu::least_for(const AccessSet& access) const {
    if (access.everything) return range.allocated_chunks();
    uint32_t least = pinned_chunks();
    for (uint32_t i = 0; i < access.count; i++) {
        const AccessSet::Part& part = access.parts[i];
        const Allocation& allocation = range.allocation(part.allocation);
        uint32_t chunks = part.end - part.first;
        least += allocation.pinned ? absent_in(part) : chunks;
    }
    return least;
}

// Waits for tierd's grant where it may come, then gives up what is needed last. May let go of the lock.
CUresult Gpu::make_room(const AccessSet& keep) {
    while (true) {
        uint64_t wanted = uint64_t{range.resident_chunks()} + absent_in(keep);
        if (wanted <= limit()) return CUDA_SUCCESS;
        uint64_t all_bytes = range.bytes_of(range.allocated_chunks());
        if (shim().lease.wait_for(range.bytes_of(least_for(keep)), all_bytes)) {
            counters.waits++;
            continue;
        }
        if (evict(static_cast<uint32_t>(wanted - limit()), keep) > 0) continue;
        // Without tierd nobody gives a larger lease; whether there is room, the GPU itself says then.
        return shim().lease.is_lost() ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
    }
}

CUresult Gpu::bring(const AccessSet& access, const Waiter& waiting) {
    constexpr int kTries = 500;
    ContextGuard guard(context_);
    note_use(access);
    CUresult result = bring_parts(access);
    // Processes that tierd left behind share the GPU by giving way: who can't have all it needs holds nothing while it
    // waits, for a time of its own, so that no two wait for each other.
    for (int i = 0; i < kTries && result == CUDA_ERROR_OUT_OF_MEMORY && shim().lease.is_lost(); i++) {
        shrink_to(0);
        uint64_t chance = sys::now_ns() * kHashMix1 >> 32;
        timespec pause{0, static_cast<long>(5'000'000 + chance % 60'000'000)};
        sys::call(SYS_nanosleep, &pause, nullptr);
        result = bring_parts(access);
    }
    return result == CUDA_SUCCESS ? wait_for_fills(waiting) : result;
}

CUresult Gpu::bring_parts(const AccessSet& access) {
    if (absent_in(access) == 0) return CUDA_SUCCESS;
    if (CUresult refused = make_room(access); refused != CUDA_SUCCESS) return refused;
    uint32_t rows = access.everything ? range.allocation_rows() : access.count;
    for (uint32_t i = 0; i < rows; i++) {
        const Allocation& whole = range.allocation(i);
        AccessSet::Part part =
            access.everything ? AccessSet::Part{i, whole.first, whole.first + whole.chunks} : access.parts[i];
        if (CUresult result = bring_part(part, access, true); result != CUDA_SUCCESS) return result;
    }
    return CUDA_SUCCESS;
}

// After a launch has gone to the driver: its kernel computes while the next allocation comes. Only into what the lease
// leaves, and only in the place of what is needed later than that.
void Gpu::read_ahead(const AccessSet& now) {
    uint32_t row = ahead_.expected(range, calls_);
    if (row == kNone || now.everything || now.count == AccessSet::kParts) return;
    const Allocation& next = range.allocation(row);
    if (next.absent == 0) return;
    ContextGuard guard(context_);
    AccessSet keep;
    for (uint32_t i = 0; i < now.count; i++) keep.parts[keep.count++] = now.parts[i];
    keep.add(row, next.first, next.first + next.chunks);
    uint64_t wanted = uint64_t{range.resident_chunks()} + next.absent;
    if (wanted > limit() && !evict_all_of(wanted - limit(), keep, calls_until_use(next))) return;
    uint32_t absent = next.absent;
    if (bring_part({row, next.first, next.first + next.chunks}, keep, false) != CUDA_SUCCESS) return;
    counters.chunks_ahead += absent;
    range.allocation(row).ahead = true;
}

CUresult Gpu::bring_part(const AccessSet::Part& part, const AccessSet& keep, bool patient) {
    if (range.allocation(part.allocation).absent == 0) return CUDA_SUCCESS;
    for (uint32_t chunk = part.first; chunk < part.end; chunk++) {
        if (range.chunk(chunk).state != ChunkState::absent) continue;
        if (CUresult result = take_memory(chunk, keep, patient); result != CUDA_SUCCESS) return result;
        // Without an image too: who never wrote to it since need not have it saved.
        bool hashed = hash_ != nullptr;
        CUresult result = hashed || range.chunk(chunk).has_image() ? fill(chunk) : CUDA_SUCCESS;
        if (result != CUDA_SUCCESS) {
            TIERD_REAL(cuStreamSynchronize)(fills_);
            return_memory(chunk);
            return result;
        }
        range.change(chunk, hashed ? ChunkEvent::fill : ChunkEvent::bring);
        uint64_t resident = range.resident_chunks();
        if (resident > counters.most_chunks) counters.most_chunks = resident;
        shim().gate.close();
    }
    return CUDA_SUCCESS;
}

// GPU memory under one chunk. Where the GPU has none although the lease says so (others use it without tierd), this
// process makes do with what it has.
CUresult Gpu::take_memory(uint32_t index, const AccessSet& keep, bool patient) {
    constexpr int kPatience = 20;
    if (managed_ != 0) return bring_managed(index);
    CUmemGenericAllocationHandle memory = 0;
    for (int tries = 0;; tries++) {
        CUresult created = TIERD_REAL(cuMemCreate)(&memory, range.chunk_bytes(), &memory_kind_, 0);
        if (created == CUDA_SUCCESS) break;
        if (created != CUDA_ERROR_OUT_OF_MEMORY || !patient || tries == kPatience) return created;
        if (evict(1, keep) > 0) continue;
        timespec pause{0, 5'000'000};  // somebody who was told to give memory back may be about to
        sys::call(SYS_nanosleep, &pause, nullptr);
    }
    CUdeviceptr address = range.address_of(index);
    CUmemAccessDesc access{memory_kind_.location, CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
    CUresult result = TIERD_REAL(cuMemMap)(address, range.chunk_bytes(), 0, memory, 0);
    if (result == CUDA_SUCCESS) {
        result = TIERD_REAL(cuMemSetAccess)(address, range.chunk_bytes(), &access, 1);
        if (result != CUDA_SUCCESS) TIERD_REAL(cuMemUnmap)(address, range.chunk_bytes());
    }
    if (result != CUDA_SUCCESS)
        TIERD_REAL(cuMemRelease)(memory);
    else
        range.chunk(index).memory = memory;
    return result;
}

// Starts the copies of a chunk's image and, behind them, its hash.
CUresult Gpu::fill(uint32_t index) {
    Chunk& chunk = range.chunk(index);
    Stage& stage = stages_[next_stage_++ % kStages];
    if (CUresult busy = TIERD_REAL(cuEventSynchronize)(stage.copied); busy != CUDA_SUCCESS) return busy;
    if (chunk.saved != 0) {
        CUresult result = TIERD_REAL(cuMemcpyHtoDAsync_v2)(
            range.address_of(index), reinterpret_cast<const void*>(chunk.saved), range.chunk_bytes(), fills_);
        if (result != CUDA_SUCCESS) return result;
        counters.bytes_from_saved += range.chunk_bytes();
    }
    if (CUresult result = copy_slices(index, stage); result != CUDA_SUCCESS) return result;
    if (CUresult result = TIERD_REAL(cuEventRecord)(stage.copied, fills_); result != CUDA_SUCCESS)
        return result;
    if (CUresult result = TIERD_REAL(cuStreamWaitEvent)(hashes_, stage.copied, 0); result != CUDA_SUCCESS)
        return result;
    if (hash_ != nullptr)
        if (CUresult result = start_hash(index, sums_); result != CUDA_SUCCESS) return result;
    fills_pending_ = true;
    counters.chunks_filled++;
    return TIERD_REAL(cuEventRecord)(filled_, hashes_);
}

// Neighbouring slices go over in one copy.
CUresult Gpu::copy_slices(uint32_t index, Stage& stage) {
    CUdeviceptr address = range.address_of(index);
    for (uint32_t row = range.chunk(index).slices; row != kNone; row = range.slice(row).next) {
        const FileSlice& slice = range.slice(row);
        if (CUresult result = read_slice(slice, stage.buffer + slice.begin); result != CUDA_SUCCESS)
            return result;
        CUresult result = TIERD_REAL(cuMemcpyHtoDAsync_v2)(address + slice.begin, stage.buffer + slice.begin,
                                                           slice.length, fills_);
        if (result != CUDA_SUCCESS) return result;
        counters.bytes_from_files += slice.length;
    }
    return CUDA_SUCCESS;
}

// Its bytes, if they are still those that were loaded.
CUresult Gpu::read_slice(const FileSlice& slice, char* into) {
    Sources& sources = shim().sources;
    if (!sources.unchanged(slice.file)) {
        log_info() << "a weight file changed after it was loaded: what the engine loaded can't be had again";
        return CUDA_ERROR_FILE_NOT_FOUND;
    }
    ::memcpy(into, sources.bytes(slice.file, slice.offset_bytes), slice.length);
    return CUDA_SUCCESS;
}

CUresult Gpu::start_hash(uint32_t index, CUdeviceptr sums) {
    CUdeviceptr words = range.address_of(index), sum = sums + index * sizeof(Hash);
    uint64_t count = range.chunk_bytes() / sizeof(uint64_t);
    void* parameters[] = {&words, &count, &sum, &key_.lane[0], &key_.lane[1]};
    if (CUresult result = TIERD_REAL(cuMemsetD8Async)(sum, 0, sizeof(Hash), hashes_); result != CUDA_SUCCESS)
        return result;
    return TIERD_REAL(cuLaunchKernel)(hash_, 64, 1, 1, 256, 1, 1, 0, hashes_, parameters, nullptr);
}

CUresult Gpu::wait_for_fills(const Waiter& waiting) {
    if (!fills_pending_) return CUDA_SUCCESS;
    if (waiting.has_stream) return TIERD_REAL(cuStreamWaitEvent)(waiting.stream, filled_, 0);
    CUresult result = TIERD_REAL(cuEventSynchronize)(filled_);
    if (result == CUDA_SUCCESS) fills_pending_ = false;
    return result;
}

CUresult Gpu::pin(const AccessSet& access, const Waiter& waiting) {
    CUresult result = bring(access, waiting);
    if (result != CUDA_SUCCESS) return result;
    uint32_t rows = access.everything ? range.allocation_rows() : access.count;
    for (uint32_t i = 0; i < rows; i++)
        range.allocation(access.everything ? i : access.parts[i].allocation).pinned = true;
    return CUDA_SUCCESS;
}

}  // namespace tierd::shim::cuda
