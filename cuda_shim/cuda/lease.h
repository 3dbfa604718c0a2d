// lease.h - how much of the GPU tierd lets this process have, and the thread that receives tierd's updates.
//
// Owns:      the lease channel and its thread.
// Invariant: what is resident never exceeds the lease for longer than it takes to evict; the lease grows only by
//            tierd's grant and shrinks only by our report, so the sum of all leases never exceeds what tierd gives out.
//            Only
//            what one launch needs at once is asked for beyond what leases may be together.
//            When tierd goes, the lease stays as it was, and processes yield to each other (Residency::yield). To a
//            tierd that comes back the process comes without anything.
// Callers:   start(), wait_for(): the engine's threads with the GPU's lock held; the thread itself takes that lock.
// Fails:     without tierd there is no lease: start() returns false, and nothing is elastic (but for TIERD_GPU_LIMIT).
#pragma once

#include <stdint.h>

#include "cuda_shim/host/owned_fd.h"
#include "cuda_shim/host/sys.h"
#include "lib/session/wire.h"

namespace tierd::shim::cuda {

class Gate;
class Gpu;
class Sources;

class Lease {
  public:
    constexpr Lease(Gpu& gpu, Gate& gate, const Sources& sources, Lock& lock)
        : gpu_(gpu), gate_(gate), sources_(sources), lock_(lock) {}

    // Connects for this GPU. False: tierd does not answer there, or does not share this GPU out.
    bool start(const unsigned char* uuid, uint64_t total_bytes);
    // True when start() is worth a try: it is not tried more often than every few seconds.
    bool may_try() const;

    uint64_t granted_bytes() const { return __atomic_load_n(&granted_bytes_, __ATOMIC_RELAXED); }
    uint64_t limit_bytes() const { return limit_bytes_; }
    bool is_live() const { return __atomic_load_n(&live_, __ATOMIC_ACQUIRE) != 0; }
    // There was a tierd, and it has gone.
    bool is_lost() const { return lost_; }

    // What others have leased, as tierd says now. Lets go of the GPU's lock meanwhile.
    uint64_t others_bytes();

    // More is needed: asks, lets go of the GPU's lock and waits for tierd's next word. False when no more can come:
    // the lease is what the process wants, or all that tierd can give, or there is no tierd.
    bool wait_for(uint64_t required_bytes, uint64_t requested_bytes);

    void reset_in_child();

  private:
    bool handshake();
    bool start_thread();
    static void* run(void* lease);
    void serve();
    void run_without_tierd();
    bool reconnect();
    bool read_message();
    void apply(const wire::LeaseGrant& grant);
    bool query();
    void report_residency();
    void wait_for_update(uint32_t seen);
    void shrink(uint64_t target_bytes, uint64_t not_before_ns);
    bool is_idle();
    void disconnect(const char* why);
    void wake_waiters();

    Gpu& gpu_;
    Gate& gate_;
    const Sources& sources_;
    Lock& lock_;  // the GPU's
    OwnedFd channel_;
    uint64_t granted_bytes_ = UINT64_MAX;  // atomic; without tierd only TIERD_GPU_LIMIT holds
    uint64_t limit_bytes_ = 0;             // of what leases may be together
    uint64_t overcommit_bytes_ = 0;        // of the GPU's memory, for one launch
    uint64_t others_bytes_ = 0;
    uint64_t requested_bytes_ = 0;
    uint64_t next_try_ns_ = 0;
    uint64_t calls_seen_ = 0;     // the thread's
    uint64_t calls_seen_ns_ = 0;  // when they last grew
    uint32_t sequence_ = 0;
    uint32_t shrunk_sequence_ = 0;  // sequence of the last LeaseShrunk
    uint64_t reported_changes_ = 0;
    uint64_t next_report_ns_ = 0;
    unsigned char uuid_[16] = {};
    uint64_t total_bytes_ = 0;
    bool lost_ = false;
    uint32_t live_ = 0;     // atomic
    uint32_t updates_ = 0;  // atomic; counts what tierd said, and is waited on
};

}  // namespace tierd::shim::cuda
