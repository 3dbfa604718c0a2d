// gate.h - whether a launch may go on without a look at the tables: one word, and how it is closed under running
// threads.
//
// A thread that launches says so in a word of its own (`inside`), then reads the gate. Whoever wants to take memory
// away
// closes the gate, makes every processor see that (membarrier), and waits until no thread is inside: from then on
// whoever
// launches comes to the GPU's lock first. So the way through the open gate has one atomic load and no other costs.
//
// Owns:      the gate's word and the list of the threads' words.
// Invariant: while the gate is open every allocated chunk is in the GPU's memory and filled; after drain() no thread is
//            between the gate and the end of its call to the driver, unless it holds the GPU's lock.
// Callers:   any thread; open(), close() and drain() with the GPU's lock held.
// Fails:     a thread for which there is no room in the list always takes the lock.
#pragma once

#include <stdint.h>

#include "cuda_shim/host/sys.h"

namespace tierd::shim::cuda {

enum class GateState : uint32_t {
    unused,  // no elastic memory was ever allocated
    open,
    closed,
};

class Gate;

// One thread's. In static storage of the thread, so that reaching it costs no call.
struct ThreadMark {
    Gate* gate = nullptr;  // that lists it
    uint32_t inside = 0;
    uint32_t listed = 0;
    uint64_t calls = 0;  // of the driver that may use elastic memory
};
extern constinit thread_local ThreadMark this_mark;

class Gate {
  public:
    static constexpr uint32_t kMaxThreads = 4096;

    // True: go on, and leave() afterwards. False: the lock is to be taken.
    bool enter() {
        set_inside();
        GateState seen = __atomic_load_n(&word_, __ATOMIC_SEQ_CST);
        if (__builtin_expect(seen == GateState::unused || (seen == GateState::open && this_mark.listed != 0),
                             1)) {
            __atomic_store_n(&this_mark.calls, this_mark.calls + 1, __ATOMIC_RELAXED);
            return true;
        }
        leave();
        return false;
    }
    // With the GPU's lock held, whatever the gate says. False: this thread is not on the list, and must keep the lock.
    bool enter_listed() {
        if (this_mark.listed == 0) return false;
        drained_ = 0;
        __atomic_store_n(&this_mark.calls, this_mark.calls + 1, __ATOMIC_RELAXED);
        __atomic_store_n(&this_mark.inside, 1u, __ATOMIC_SEQ_CST);
        return true;
    }
    static void leave() { __atomic_store_n(&this_mark.inside, 0u, __ATOMIC_RELEASE); }

    bool is_open() const { return __atomic_load_n(&word_, __ATOMIC_RELAXED) == GateState::open; }
    bool is_unused() const { return __atomic_load_n(&word_, __ATOMIC_ACQUIRE) == GateState::unused; }
    void open() { __atomic_store_n(&word_, GateState::open, __ATOMIC_RELEASE); }
    void close();
    // Waits until every thread that went through the open gate has come back from the driver.
    void drain();

    // Puts the calling thread on the list, to be taken off at its end.
    void list_this_thread();
    // The sum of all threads' calls, those of ended ones included: it grows while the process launches.
    uint64_t calls();
    void reset_in_child();

  private:
    // The store comes before the look at the gate. The kernel's membarrier in drain() sees to that; without it both
    // sides pay.
    void set_inside() {
        if (__builtin_expect(__atomic_load_n(&barriers_in_kernel_, __ATOMIC_RELAXED) != 0, 1)) {
            __atomic_store_n(&this_mark.inside, 1u, __ATOMIC_RELAXED);
            __asm__ volatile("" ::: "memory");
        } else {
            __atomic_store_n(&this_mark.inside, 1u, __ATOMIC_SEQ_CST);
        }
    }
    void forget_thread(ThreadMark* mark);
    static void at_thread_end(void* mark);

    GateState word_ = GateState::unused;
    uint32_t barriers_in_kernel_ = 0;
    uint32_t drained_ = 1;  // nobody can have come through since
    uint32_t has_key_ = 0;
    uint32_t key_ = 0;
    Lock list_lock_;
    ThreadMark* threads_[kMaxThreads] = {};
    uint32_t count_ = 0;
    uint64_t calls_of_ended_ = 0;
};

}  // namespace tierd::shim::cuda
