#include "cuda_shim/cuda/residency.h"

#include "cuda_shim/cuda/context_guard.h"
#include "cuda_shim/cuda/hash.h"

namespace tierd::shim::cuda {

uint32_t Residency::absent_in(const AccessSet::Part& part) const {
    const Allocation& allocation = parts_.range.allocation(part.allocation);
    if (allocation.absent == 0 || part.end - part.first == allocation.chunks) return allocation.absent;
    uint32_t absent = 0;
    for (uint32_t chunk = part.first; chunk < part.end; chunk++)
        absent += parts_.range.chunk(chunk).state == ChunkState::absent ? 1 : 0;
    return absent;
}

uint32_t Residency::absent_in(const AccessSet& access) const {
    if (access.everything) return parts_.range.absent_chunks();
    uint32_t absent = 0;
    for (uint32_t i = 0; i < access.count; i++) absent += absent_in(access.parts[i]);
    return absent;
}

// How many chunks this process may have on the GPU now.
uint32_t Residency::limit_chunks() const {
    uint64_t limit_bytes = parts_.lease.granted_bytes();
    uint64_t own = parts_.config.limit_bytes;
    if (own != 0 && own < limit_bytes) limit_bytes = own;
    uint64_t chunks = limit_bytes / parts_.range.chunk_bytes();
    return chunks < kNone ? static_cast<uint32_t>(chunks) : kNone;
}

// How many chunks have to be resident at once for these: they, and those that are pinned.
uint32_t Residency::least_for(const AccessSet& access) const {
    if (access.everything) return parts_.range.allocated_chunks();
    uint32_t least = pinned_chunks();
    for (uint32_t i = 0; i < access.count; i++) {
        const AccessSet::Part& part = access.parts[i];
        uint32_t chunks = part.end - part.first;
        least += parts_.range.allocation(part.allocation).pinned ? absent_in(part) : chunks;
    }
    return least;
}

uint32_t Residency::pinned_chunks() const {
    uint32_t pinned = 0;
    for (uint32_t i = 0; i < parts_.range.allocation_rows(); i++) {
        const Allocation& row = parts_.range.allocation(i);
        if (row.bytes != 0 && row.pinned) pinned += row.chunks - row.absent;
    }
    return pinned;
}

void Residency::update_gate() {
    if (parts_.streams.is_pending() || parts_.range.absent_chunks() != 0) return parts_.gate.close();
    parts_.in_flight.unseen();  // calls through the gate get no fence
    parts_.gate.open();
}

// Waits for tierd's grant where it may come, then evicts what is needed last. May release the lock meanwhile.
CUresult Residency::make_room(const AccessSet& keep) {
    ReservedRange& range = parts_.range;
    while (true) {
        uint64_t wanted = uint64_t{range.resident_chunks()} + absent_in(keep);
        if (wanted <= limit_chunks()) return CUDA_SUCCESS;
        uint64_t all_bytes = range.bytes_of(range.allocated_chunks());
        if (parts_.lease.wait_for(range.bytes_of(least_for(keep)), all_bytes)) {
            parts_.counters.waits++;
            continue;
        }
        if (evict(static_cast<uint32_t>(wanted - limit_chunks()), keep) > 0) continue;
        // Without tierd no larger lease comes; then the GPU itself decides whether there is room.
        return parts_.lease.is_lost() ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
    }
}

CUresult Residency::make_resident(const AccessSet& access, const Waiter& waiting) {
    constexpr int kTries = 500;
    ContextGuard guard(context_);
    parts_.history.record_use(access);
    CUresult result = load(access);
    // Processes that tierd left behind share the GPU by yielding: one that can't have all it needs holds nothing while
    // it waits, for a random time, so that no two wait for each other.
    for (int i = 0; i < kTries && result == CUDA_ERROR_OUT_OF_MEMORY && parts_.lease.is_lost(); i++) {
        shrink_to(0);
        uint64_t chance = sys::now_ns() * kHashMix1 >> 32;
        timespec pause{0, static_cast<long>(5'000'000 + chance % 60'000'000)};
        sys::call(SYS_nanosleep, &pause, nullptr);
        result = load(access);
    }
    return driver::ok(result) ? parts_.streams.wait(waiting) : result;
}

CUresult Residency::load(const AccessSet& access) {
    if (absent_in(access) == 0) return CUDA_SUCCESS;
    if (CUresult refused = make_room(access); !driver::ok(refused)) return refused;
    uint32_t rows = access.everything ? parts_.range.allocation_rows() : access.count;
    for (uint32_t i = 0; i < rows; i++) {
        const Allocation& whole = parts_.range.allocation(i);
        AccessSet::Part part =
            access.everything ? AccessSet::Part{i, whole.first, whole.first + whole.chunks} : access.parts[i];
        if (CUresult result = load_part(part, access, true); !driver::ok(result)) return result;
    }
    return CUDA_SUCCESS;
}

// A launch has gone to the driver: its kernel computes while the next allocation is filled. Only what fits into the
// lease, and only in the place of what is needed later than that.
void Residency::read_ahead(const AccessSet& now) {
    ReservedRange& range = parts_.range;
    uint32_t row = parts_.history.expected();
    if (row == kNone || now.everything || now.count == AccessSet::kParts) return;
    const Allocation& next = range.allocation(row);
    if (next.absent == 0) return;
    ContextGuard guard(context_);
    AccessSet keep;
    for (uint32_t i = 0; i < now.count; i++) keep.parts[keep.count++] = now.parts[i];
    keep.add(row, next.first, next.first + next.chunks);
    uint64_t wanted = uint64_t{range.resident_chunks()} + next.absent;
    uint64_t limit = limit_chunks();
    if (wanted > limit && !evict_all_of(wanted - limit, keep, parts_.history.calls_until_use(next))) return;
    uint32_t absent = next.absent;
    if (!driver::ok(load_part({row, next.first, next.first + next.chunks}, keep, false))) return;
    parts_.counters.chunks_ahead += absent;
    range.allocation(row).ahead = true;
}

CUresult Residency::load_part(const AccessSet::Part& part, const AccessSet& keep, bool patient) {
    ReservedRange& range = parts_.range;
    if (range.allocation(part.allocation).absent == 0) return CUDA_SUCCESS;
    for (uint32_t chunk = part.first; chunk < part.end; chunk++) {
        if (range.chunk(chunk).state != ChunkState::absent) continue;
        if (CUresult result = add_memory(chunk, keep, patient); !driver::ok(result)) return result;
        ChunkEvent event = ChunkEvent::map;
        if (CUresult result = backing_->fill(chunk, &event); !driver::ok(result)) {
            driver::synchronize(parts_.streams.copies());
            backing_->unmap(chunk);
            return result;
        }
        range.change(chunk, event);
        uint64_t resident = range.resident_chunks();
        if (resident > parts_.counters.most_chunks) parts_.counters.most_chunks = resident;
        parts_.gate.close();
    }
    return CUDA_SUCCESS;
}

// Where the GPU has no memory although the lease allows it (others use it without tierd), this process makes do with
// what it has.
CUresult Residency::add_memory(uint32_t chunk, const AccessSet& keep, bool patient) {
    constexpr int kPatience = 20;
    for (int tries = 0;; tries++) {
        CUresult created = backing_->create(chunk);
        if (driver::ok(created)) return backing_->map(chunk);
        if (created != CUDA_ERROR_OUT_OF_MEMORY || !patient || tries == kPatience) return created;
        if (evict(1, keep) > 0) continue;
        timespec pause{0, 5'000'000};  // a process that was told to give memory back may be about to
        sys::call(SYS_nanosleep, &pause, nullptr);
    }
}

CUresult Residency::pin(const AccessSet& access, const Waiter& waiting) {
    CUresult result = make_resident(access, waiting);
    if (!driver::ok(result)) return result;
    uint32_t rows = access.everything ? parts_.range.allocation_rows() : access.count;
    for (uint32_t i = 0; i < rows; i++)
        parts_.range.allocation(access.everything ? i : access.parts[i].allocation).pinned = true;
    return CUDA_SUCCESS;
}

uint32_t Residency::evict(uint32_t chunks, const AccessSet& keep) {
    uint32_t gone = 0;
    while (gone < chunks) {
        uint32_t victims[ChunkBacking::kMaxVictims];
        uint32_t left = chunks - gone;
        uint32_t wanted = left < ChunkBacking::kMaxVictims ? left : ChunkBacking::kMaxVictims;
        uint32_t found = parts_.history.choose_victims(victims, wanted, keep, 0);
        uint32_t evicted = found > 0 ? evict_victims(victims, found) : 0;
        gone += evicted;
        if (evicted == 0) break;
    }
    return gone;
}

// As evict(), but all of them or none.
bool Residency::evict_all_of(uint64_t chunks, const AccessSet& keep, uint64_t beyond) {
    uint32_t victims[ChunkBacking::kMaxVictims];
    if (chunks > ChunkBacking::kMaxVictims) return false;
    uint32_t wanted = static_cast<uint32_t>(chunks);
    return parts_.history.choose_victims(victims, wanted, keep, beyond) == wanted &&
           evict_victims(victims, wanted) == wanted;
}

uint32_t Residency::evict_victims(const uint32_t* victims, uint32_t count) {
    return quiesce(victims, count) ? backing_->evict(victims, count) : 0;
}

void Residency::shrink_to(uint32_t chunks) {
    ContextGuard guard(context_);
    AccessSet nothing;
    uint32_t resident = parts_.range.resident_chunks();
    if (resident > chunks) evict(resident - chunks, nothing);
}

void Residency::yield(bool idle) {
    constexpr uint64_t kSliceNs = 500'000'000u;
    constexpr uint64_t kNearlyFull = 8;  // less than a part in so many is free
    ContextGuard guard(context_);
    size_t free_bytes = 0, total_bytes = 0;
    bool full = driver::memory_info(&free_bytes, &total_bytes) && free_bytes < total_bytes / kNearlyFull;
    if (!full || (!idle && sys::now_ns() - yielded_ns_ < kSliceNs)) return;
    yielded_ns_ = sys::now_ns();
    shrink_to(0);
}

// Waits until no call of the engine's and no fill of ours runs that could use the victims.
bool Residency::quiesce(const uint32_t* victims, uint32_t count) {
    Stopwatch watch(parts_.counters.calls_ns);
    parts_.gate.close();
    parts_.gate.drain();
    return driver::ok(parts_.in_flight.wait_for(parts_.range, victims, count)) &&
           driver::ok(parts_.streams.wait(Waiter{}));
}

}  // namespace tierd::shim::cuda
