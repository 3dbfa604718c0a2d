// in_flight.h - which calls of the engine's may still be running on the GPU, so that memory is taken away as soon as
// those
// that could reach it have ended, and not when everything has.
//
// A call that is seen gets a fence: a number, and an event behind it on its stream. An allocation keeps the fence of
// its last use. A call without a stream is one on the default stream. What is not seen (calls through the open gate,
// uses on
// several streams) is waited for with the whole context.
//
// Owns:      the events.
// Invariant: ended(allocation) is true only when every call that named the allocation has ended. A fence is reused
//            only when its call has ended.
// Callers:   launched(): the thread that took the fence, still inside the gate; all others: with the GPU's lock held.
// Fails:     a call that gets no fence is one that is not seen.
#pragma once

#include "cuda_shim/cuda/access_set.h"
#include "cuda_shim/cuda/driver.h"

namespace tierd::shim::cuda {

class InFlight {
  public:
    static constexpr uint64_t kEvents = 512;

    bool prepare(CUcontext context);
    // A fence for a call that uses `reach` on `stream`; 0: it is not seen.
    uint64_t begin(ReservedRange& range, const AccessSet& access, CUstream stream);
    // The driver has the call.
    void launched(uint64_t fence);
    // Something may run that has no fence.
    void unseen() { unseen_ = true; }

    // Waits until nothing runs that could reach these chunks' allocations. Nobody is inside the gate.
    CUresult wait_for(const ReservedRange& range, const uint32_t* chunks, uint32_t count);

    uint64_t whole_waits() const { return whole_waits_; }

  private:
    struct Slot {
        CUevent event = nullptr;
        CUstream stream = nullptr;
        uint64_t key = 0;    // of the stream; each thread has one of its own under the same handle
        uint32_t state = 0;  // atomic: 0 free, 1 begun, 2 recorded, 3 the event could not be recorded
    };
    Slot& slot(uint64_t fence) { return slots_[fence % kEvents]; }
    bool may_run(uint64_t fence) const { return fence >= floor_ && fence + kEvents >= next_; }

    bool is_free(Slot& slot) const;

    CUcontext context_ = nullptr;
    Slot slots_[kEvents];
    uint64_t next_ = 1;
    uint64_t floor_ = 1;  // everything before has ended
    bool unseen_ = true;
    uint64_t whole_waits_ = 0;
};

}  // namespace tierd::shim::cuda
