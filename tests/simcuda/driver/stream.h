// stream.h - streams that really run beside the host: one thread each, in order, waiting for what they must wait for.
//
// Owns:      the queue and the thread of a stream.
// Invariant: work of one stream runs in the order of submission. Work waits only for marks that existed when it was
//            submitted, so there is no cycle and no deadlock.
// Callers:   submit() and the rest from any thread.
// Fails:     nothing here does.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include <cuda.h>

#include "tests/simcuda/driver/gpu_clock.h"

namespace simcuda {

struct Capture;

// A point in a stream's order. It is reached once.
class Mark {
  public:
    void reach(uint64_t end_ns);
    bool reached() const;
    uint64_t wait() const;  // returns end_ns, on the GPU's clock

  private:
    mutable std::mutex mutex_;
    mutable std::condition_variable reached_now_;
    bool reached_ = false;
    uint64_t end_ns_ = 0;
};
using MarkPtr = std::shared_ptr<Mark>;

class Stream : public std::enable_shared_from_this<Stream> {
  public:
    // Gets when the work starts on the GPU's clock; does it; gives when it ends.
    using Run = std::function<uint64_t(uint64_t start_ns)>;

    Stream(GpuClock& clock, CUcontext context, unsigned flags, int priority);

    MarkPtr submit(const char* name, std::vector<MarkPtr> after, Run run);
    MarkPtr tail() const;  // null: nothing was ever submitted
    void close();          // no more submissions; what is queued still runs, then the thread ends

    CUcontext context() const { return context_; }
    unsigned flags() const { return flags_; }
    int priority() const { return priority_; }
    bool blocking() const { return !(flags_ & CU_STREAM_NON_BLOCKING); }
    uint64_t id() const { return id_; }

    // The capture that this stream takes part in; null: none. Only under the context's lock.
    std::shared_ptr<Capture> capture;
    std::vector<CUgraphNode> capture_tail;

  private:
    struct Work {
        const char* name;
        std::vector<MarkPtr> after;
        Run run;
        MarkPtr mark;
        uint64_t submitted_ns;
    };
    void loop();
    void perform(Work& work);

    GpuClock& clock_;
    const CUcontext context_;
    const unsigned flags_;
    const int priority_;
    const uint64_t id_;
    mutable std::mutex mutex_;  // the fields below
    std::condition_variable queued_;
    std::deque<Work> queue_;
    MarkPtr tail_;
    bool running_ = false, closed_ = false;
    uint64_t end_ns_ = 0;  // of the last work done; the thread's alone
};

// Is this thread running a stream's work? CUDA calls are forbidden to it (cuLaunchHostFunc).
bool on_stream_thread();

}  // namespace simcuda
