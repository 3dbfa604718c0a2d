// fault_server.h - from a touch to a mapped page.
//
// Owns:      the threads that wait for an extent, what is still to be mapped ahead of touches, and where the time of faults
//            went.
// Invariant: only a resident extent is mapped, only where the client still has that region, and nothing while the heartbeat
//            is stalled. Every touch is answered: mapped, woken, or ordered to fall back within the fault deadline.
// Callers:   the engine's thread. The longest call is UFFDIO_CONTINUE, about 0.1 ms a 2 MiB extent of small pages.
#pragma once

#include <deque>
#include <unordered_map>
#include <vector>

#include "lib/engine/fault_profile.h"
#include "lib/engine/heartbeat.h"
#include "lib/engine/hinter.h"
#include "lib/engine/huge_mapper.h"
#include "lib/engine/kernel_backend.h"
#include "lib/engine/sessions.h"
#include "lib/engine/status.h"
#include "lib/placement/placement.h"

namespace tierd {

class FaultServer {
  public:
    FaultServer(uint32_t deadline_ms, uint64_t started_ns, Placement& placement, KernelBackend& backend,
                FileRegistry& files, Sessions& sessions, Hinter& hinter, HugeMapper& huge,
                HeartbeatWriter& heartbeat);

    // Reads what the client's userfaultfd reports, and answers what can be answered at once.
    void serve(Client& client);
    // A touch whose answer did not work out on another thread.
    void retry(uint64_t client, uint64_t address);

    // Answers everybody who waits for the extent.
    void on_filled(const PlacementEvent& event);
    void on_failed(ExtentId id, FallBackReason reason);

    // The client mapped a range of the file: what is resident of it is mapped soon.
    void map_ahead(const Client& client, const WeightFile& file, uint64_t offset_bytes,
                   uint64_t length_bytes);
    // Maps one of those that were filled and that nobody waits for.
    void map_one_filled();
    // Maps resident extents ahead of their touches, for about a millisecond.
    void map_some_ahead();
    bool has_filled() const { return !filled_.empty(); }
    // When map_some_ahead() has something to do; UINT64_MAX: never.
    uint64_t next_ahead_ns() const { return ahead_.empty() ? UINT64_MAX : ahead_.front().not_before_ns; }

    // Whoever waited longer than the deadline is ordered to fall back.
    void check_deadlines();
    bool is_waiting() const { return !waiters_.empty(); }

    const FaultProfile& profile() const { return profile_; }
    const SlowFault& slowest() const { return slowest_; }

  private:
    // A thread that waits for an extent.
    struct Waiter {
        uint64_t client = 0;
        uint64_t address = 0;
        uint64_t arrived_ns = 0;
    };
    // Resident extents still to be mapped into a client ahead of its touches.
    struct AheadTask {
        uint64_t client = 0;
        uint64_t file = 0;
        uint32_t next = 0;  // extent index
        uint32_t end = 0;
        uint64_t not_before_ns = 0;  // the answer to the mapping goes first: this keeps a processor busy
    };
    void handle(Client& client, const Fault& fault);
    void serve_resident(Client& client, const Region& region, ExtentId id, const Fault& fault,
                        uint64_t arrived_ns);
    bool map_hinted(Client& client, const Region& region, ExtentId id, const Fault& fault,
                    uint64_t arrived_ns);
    void wait(ExtentId id, const Client& client, uint64_t address, uint64_t arrived_ns);
    bool map_extent(Client& client, const Region& region, ExtentId id, uint64_t touched,
                    bool page_only = false);
    void map_for_all(WeightFile& file, ExtentId id);
    bool map_for(Client& client, const WeightFile& file, ExtentId id);
    bool answer(const Waiter& waiter, const PlacementEvent& event);
    void measure(Client& client, const WeightFile& file, const Waiter& waiter, const PlacementEvent& event);

    const uint32_t deadline_ms_;
    Placement& placement_;
    KernelBackend& backend_;
    FileRegistry& files_;
    Sessions& sessions_;
    Hinter& hinter_;
    HugeMapper& huge_;
    HeartbeatWriter& heartbeat_;
    std::unordered_map<ExtentId, std::vector<Waiter>> waiters_;
    std::deque<ExtentId> filled_;  // to be mapped though nobody waits
    std::deque<AheadTask> ahead_;
    FaultProfile profile_;
    SlowFault slowest_;
    const uint64_t started_ns_;
};

}  // namespace tierd
