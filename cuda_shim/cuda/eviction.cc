// eviction.cc - the way out of the GPU's memory: who goes, the proof, and the save. See gpu.h.
#include "cuda_shim/cuda/context_guard.h"
#include "cuda_shim/cuda/shim.h"
#include "cuda_shim/host/log.h"

namespace tierd::shim::cuda {

namespace {
constexpr uint32_t kBatch = 512;  // victims that are proved and saved together
}

// Engines sweep their weights in a cycle, where the least recently used is what comes next. So the victim is who is
// expected to be used last, by the time between its last two uses; who is overdue has stopped being used.
uint64_t Gpu::calls_until_use(const Allocation& allocation) const {
    uint64_t age = calls_ - allocation.used_at;
    if (allocation.period == 0) return UINT64_MAX / 2 + age;
    return allocation.period > age ? allocation.period - age : age + allocation.period;
}

// Chunks of the allocations that are needed last, from their ends, so that a fixed part of each stays. Only of those that
// are needed later than `beyond`.
uint32_t Gpu::choose(uint32_t* victims, uint32_t wanted, const AccessSet& keep, uint64_t beyond) const {
    uint32_t found = 0;
    uint64_t below = UINT64_MAX;  // distances from here on were looked at
    uint32_t below_row = 0;
    while (found < wanted) {
        uint32_t best = kNone;
        uint64_t best_distance = 0;
        for (uint32_t i = 0; i < range.allocation_rows(); i++) {
            const Allocation& row = range.allocation(i);
            if (row.bytes == 0 || row.pinned || row.absent == row.chunks) continue;
            uint64_t distance = calls_until_use(row);
            bool seen = distance > below || (distance == below && i <= below_row);
            if (seen || distance <= beyond || (best != kNone && distance <= best_distance)) continue;
            best = i;
            best_distance = distance;
        }
        if (best == kNone) break;
        below = best_distance;
        below_row = best;
        const Allocation& row = range.allocation(best);
        for (uint32_t chunk = row.first + row.chunks; chunk-- > row.first && found < wanted;)
            if (range.chunk(chunk).resident() && !keep.holds(best, chunk)) victims[found++] = chunk;
    }
    return found;
}

uint32_t Gpu::evict(uint32_t chunks, const AccessSet& keep) {
    uint32_t gone = 0;
    while (gone < chunks) {
        uint32_t victims[kBatch];
        uint32_t wanted = chunks - gone < kBatch ? chunks - gone : kBatch;
        uint32_t found = choose(victims, wanted, keep, 0);
        uint32_t given = found > 0 ? give_back(victims, found) : 0;
        gone += given;
        if (given == 0) break;
    }
    return gone;
}

// As evict(), but everything or nothing of it.
bool Gpu::evict_all_of(uint64_t chunks, const AccessSet& keep, uint64_t beyond) {
    uint32_t victims[kBatch];
    if (chunks > kBatch) return false;
    uint32_t wanted = static_cast<uint32_t>(chunks);
    return choose(victims, wanted, keep, beyond) == wanted && give_back(victims, wanted) == wanted;
}

void Gpu::shrink_to(uint32_t chunks) {
    ContextGuard guard(context_);
    AccessSet nothing;
    if (range.resident_chunks() > chunks) evict(range.resident_chunks() - chunks, nothing);
}

void Gpu::give_way(bool idle) {
    constexpr uint64_t kSliceNs = 500'000'000u;
    constexpr uint64_t kNearlyFull = 8;  // less than a part in so many is free
    ContextGuard guard(context_);
    size_t free_bytes = 0, total_bytes = 0;
    auto* ask = TIERD_REAL(cuMemGetInfo_v2);
    bool full = ask != nullptr && ask(&free_bytes, &total_bytes) == CUDA_SUCCESS &&
                free_bytes < total_bytes / kNearlyFull;
    if (!full || (!idle && sys::now_ns() - gave_way_ns_ < kSliceNs)) return;
    gave_way_ns_ = sys::now_ns();
    shrink_to(0);
}

// Nothing of the engine's runs any more that could reach the victims, and nothing of ours.
bool Gpu::come_to_rest(const uint32_t* victims, uint32_t count) {
    Stopwatch watch(counters.calls_ns);
    shim().gate.close();
    shim().gate.drain();
    if (in_flight.wait_for(range, victims, count) != CUDA_SUCCESS) return false;
    if (fills_pending_ && TIERD_REAL(cuEventSynchronize)(filled_) != CUDA_SUCCESS) return false;
    fills_pending_ = false;
    return true;
}

// Returns the victims' memory; those that can't be saved stay.
uint32_t Gpu::give_back(const uint32_t* victims, uint32_t count) {
    if (!come_to_rest(victims, count)) return 0;
    if (managed_ != 0) return send_home(victims, count);
    bool equal[kBatch] = {};
    bool saved[kBatch] = {};
    if (!prove(victims, count, equal) || !save_others(victims, count, equal, saved)) return 0;
    Stopwatch watch(counters.return_ns);
    uint32_t gone = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (!equal[i] && !saved[i]) continue;
        if (saved[i]) range.forget_slices(victims[i]);
        (equal[i] ? counters.chunks_dropped : counters.chunks_saved)++;
        return_memory(victims[i]);
        range.change(victims[i], ChunkEvent::drop);
        Allocation& owner = range.allocation(range.chunk(victims[i]).owner);
        if (owner.ahead) ahead_.outcome(false, calls_);
        owner.ahead = false;
        gone++;
    }
    return gone;
}

// Hashes the victims that were filled from an image, all at once, and says which are as they were then.
bool Gpu::prove(const uint32_t* victims, uint32_t count, bool* equal) {
    Stopwatch watch(counters.proof_ns);
    uint32_t first = kNone, last = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (range.chunk(victims[i]).state != ChunkState::clean) continue;
        if (start_hash(victims[i], proofs_) != CUDA_SUCCESS) return false;
        if (victims[i] < first) first = victims[i];
        if (victims[i] > last) last = victims[i];
    }
    if (first == kNone) return true;
    uint64_t offset = first * sizeof(Hash), length = (last - first + 1) * sizeof(Hash);
    if (TIERD_REAL(cuMemcpyDtoHAsync_v2)(seen_sums_ + first, sums_ + offset, length, hashes_) !=
            CUDA_SUCCESS ||
        TIERD_REAL(cuMemcpyDtoHAsync_v2)(seen_proofs_ + first, proofs_ + offset, length, hashes_) !=
            CUDA_SUCCESS ||
        TIERD_REAL(cuStreamSynchronize)(hashes_) != CUDA_SUCCESS)
        return false;
    for (uint32_t i = 0; i < count; i++)
        equal[i] = range.chunk(victims[i]).state == ChunkState::clean &&
                   seen_sums_[victims[i]] == seen_proofs_[victims[i]];
    return true;
}

// Copies those that are not as their image to pinned host memory, and waits for the copies.
bool Gpu::save_others(const uint32_t* victims, uint32_t count, const bool* equal, bool* saved) {
    Stopwatch watch(counters.save_ns);
    for (uint32_t i = 0; i < count; i++) saved[i] = !equal[i] && save(victims[i]);
    return TIERD_REAL(cuStreamSynchronize)(fills_) == CUDA_SUCCESS;
}

// Starts the copy to pinned host memory.
bool Gpu::save(uint32_t index) {
    Chunk& chunk = range.chunk(index);
    if (chunk.saved == 0) chunk.saved = reinterpret_cast<uint64_t>(take_saved());
    if (chunk.saved == 0) return false;
    return TIERD_REAL(cuMemcpyDtoHAsync_v2)(reinterpret_cast<void*>(chunk.saved), range.address_of(index),
                                            range.chunk_bytes(), fills_) == CUDA_SUCCESS;
}

void Gpu::return_memory(uint32_t index) {
    if (managed_ != 0) return release_managed(index);
    Chunk& chunk = range.chunk(index);
    TIERD_REAL(cuMemUnmap)(range.address_of(index), range.chunk_bytes());
    TIERD_REAL(cuMemRelease)(chunk.memory);
    chunk.memory = 0;
}

char* Gpu::take_saved() {
    if (free_saved_ != 0) {
        uint64_t address = free_saved_;
        free_saved_ = *reinterpret_cast<uint64_t*>(address);
        return reinterpret_cast<char*>(address);
    }
    void* memory = nullptr;
    if (TIERD_REAL(cuMemHostAlloc)(&memory, range.chunk_bytes(), CU_MEMHOSTALLOC_PORTABLE) == CUDA_SUCCESS)
        return static_cast<char*>(memory);
    log_info() << "no pinned host memory to save the GPU's into";
    return nullptr;
}

void Gpu::give_saved(uint64_t address) {
    *reinterpret_cast<uint64_t*>(address) = free_saved_;
    free_saved_ = address;
}

}  // namespace tierd::shim::cuda
