#include "cuda_shim/cuda/in_flight.h"

#include "cuda_shim/cuda/context_guard.h"
#include "cuda_shim/cuda/driver_calls.h"
#include "cuda_shim/cuda/gate.h"

namespace tierd::shim::cuda {

namespace {
enum : uint32_t { kFree, kBegun, kRecorded, kFailed };

uint64_t key_of(CUstream stream) {
    return stream == CU_STREAM_PER_THREAD ? reinterpret_cast<uint64_t>(&this_mark)
                                          : reinterpret_cast<uint64_t>(stream);
}
}  // namespace

bool InFlight::prepare(CUcontext context) {
    context_ = context;
    for (Slot& one : slots_)
        if (!driver::create_event(&one.event)) return false;
    return true;
}

// Waits for the call that had it last, where that runs.
bool InFlight::is_free(Slot& slot) const {
    uint32_t state = __atomic_load_n(&slot.state, __ATOMIC_ACQUIRE);
    if (state != kRecorded) return state == kFree;
    ContextGuard guard(context_);
    return driver::wait(slot.event) == CUDA_SUCCESS;
}

uint64_t InFlight::begin(ReservedRange& range, const AccessSet& access, CUstream stream) {
    Slot& mine = slot(next_);
    if (access.everything || !is_free(mine)) {
        unseen();
        return 0;
    }
    uint64_t fence = next_++;
    mine.stream = stream;
    mine.key = key_of(stream);
    __atomic_store_n(&mine.state, kBegun, __ATOMIC_RELAXED);
    for (uint32_t i = 0; i < access.count; i++) {
        Allocation& allocation = range.allocation(access.parts[i].allocation);
        // An event on this stream says nothing of the other.
        if (may_run(allocation.fence) && slot(allocation.fence).key != mine.key) allocation.shared = fence;
        allocation.fence = fence;
    }
    return fence;
}

void InFlight::launched(uint64_t fence) {
    Slot& mine = slot(fence);
    bool recorded = driver::record(mine.event, mine.stream) == CUDA_SUCCESS;
    __atomic_store_n(&mine.state, recorded ? kRecorded : kFailed, __ATOMIC_RELEASE);
}

CUresult InFlight::wait_for(const ReservedRange& range, const uint32_t* chunks, uint32_t count) {
    bool whole = unseen_;
    for (uint32_t i = 0; i < count && !whole; i++) {
        const Allocation& allocation = range.allocation(range.chunk(chunks[i]).owner);
        if (!may_run(allocation.fence)) continue;
        const Slot& last = slot(allocation.fence);
        whole = may_run(allocation.shared) || __atomic_load_n(&last.state, __ATOMIC_ACQUIRE) != kRecorded;
        if (whole) break;
        if (CUresult result = driver::wait(last.event); result != CUDA_SUCCESS) return result;
    }
    if (!whole) return CUDA_SUCCESS;
    CUresult result = driver::synchronize_context();
    if (result != CUDA_SUCCESS) return result;
    whole_waits_++;
    floor_ = next_;
    unseen_ = false;
    for (Slot& one : slots_) __atomic_store_n(&one.state, kFree, __ATOMIC_RELAXED);
    return CUDA_SUCCESS;
}

}  // namespace tierd::shim::cuda
