// gpu_lease_table.h - who may have how much of one GPU's memory, and who is asked to give some back. Arithmetic only.
//
// Processes that want more than is free wait in a queue, in the order of their priority (set by a policy) and then of
// their arrival. None is passed over for longer than eight slices. The first one is served before all others: what it
// lacks
// is reclaimed from leases whose processes wait themselves, then from those of the lowest priority, then from those
// that
// grew first. A lease is not reclaimed before it has lasted a slice, unless its process idles, which only that process
// knows: a reclaim names both. So two processes that don't fit together take turns of a slice, and don't thrash.
//
// One launch may need more than the capacity: an engine with all its weights in one buffer would have run without us,
// so
// it is not refused. When all others are down to what they have pinned, its lease is overcommitted, up to the
// GPU's own memory; it is reclaimed for the next process that waits.
//
// Owns:      the leases of one GPU. Not the sockets they belong to, not the memory.
// Invariant: the sum of all leases never exceeds the capacity, but while one is overcommitted; then the others have
//            what they
//            pinned and no more, and the sum never exceeds the GPU's memory. A lease grows only by a Grant, in the
//            queue's order, and shrinks only when its process reports that or ends.
// Callers:   the arbitrator's thread.
// Fails:     numbers that make no sense (a lease that grows by a report) are refused: false.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <vector>

namespace tierd {

struct GpuLease {
    uint64_t lease_bytes = 0;
    uint64_t pinned_bytes = 0;     // of it, what the process can't give back
    uint64_t required_bytes = 0;   // for its next launch
    uint64_t requested_bytes = 0;  // for all that it has; 0: it waits for nothing
    uint64_t waiting_since_ns = 0;
    uint64_t granted_ns = 0;                       // when the lease last grew
    std::optional<uint64_t> reclaim_target_bytes;  // what it was asked to come down to
    uint32_t sent_position = 0;                    // in the queue, as last sent to the process
    uint64_t sent_limit_bytes = 0;                 // what it could have at most, as last sent to the process
    uint64_t overcommits = 0;                      // grants beyond the capacity
    uint64_t priority = 0;                         // greater is served sooner, and asked later
};

// What is to be sent to a process.
struct LeaseUpdate {
    uint64_t lease = 0;  // number
    bool reclaim = false;
    uint64_t lease_bytes = 0;       // as it is now; with `reclaim`: what to come down to
    uint64_t limit_bytes = 0;       // of the capacity, all but what others have pinned
    uint64_t overcommit_bytes = 0;  // of the GPU, the same: for one launch that can't do with less
    uint32_t position = 0;          // 0: not waiting
    uint64_t not_before_ns = 0;     // with `reclaim`
};

class GpuLeaseTable {
  public:
    // Leases share `capacity_bytes` of the GPU's `total_bytes`.
    GpuLeaseTable(uint64_t capacity_bytes, uint64_t total_bytes, uint64_t slice_ns)
        : capacity_bytes_(capacity_bytes), total_bytes_(total_bytes), slice_ns_(slice_ns) {}

    void open(uint64_t number) { leases_[number] = {}; }
    void close(uint64_t number) { leases_.erase(number); }
    bool want(uint64_t number, uint64_t required_bytes, uint64_t requested_bytes, uint64_t now_ns);
    bool holds(uint64_t number, uint64_t lease_bytes, uint64_t pinned_bytes);
    // False: it had that priority before.
    bool set_priority(uint64_t number, uint64_t priority);

    // What follows from all that was said so far. The words are to be sent in this order.
    std::vector<LeaseUpdate> arbitrate(uint64_t now_ns);

    uint64_t capacity_bytes() const { return capacity_bytes_; }
    uint64_t leased_bytes() const;
    uint64_t limit_for(uint64_t number) const;
    uint64_t overcommit_limit_for(uint64_t number) const;
    // The lease as it is, in the words of a grant.
    LeaseUpdate update_for(uint64_t number, uint32_t position) const;
    std::vector<uint64_t> queue(uint64_t now_ns) const;            // of those who wait, the first first
    uint32_t position_of(uint64_t number, uint64_t now_ns) const;  // in the queue, from 1; 0: not waiting
    const std::map<uint64_t, GpuLease>& leases() const { return leases_; }

  private:
    uint64_t pinned_by_others(uint64_t number) const;
    void reclaim(uint64_t bytes, uint64_t for_number, std::span<const uint64_t> queue, uint64_t now_ns,
                 std::vector<LeaseUpdate>& words);
    void update_positions(uint64_t now_ns, std::vector<LeaseUpdate>& words);

    uint64_t capacity_bytes_;
    uint64_t total_bytes_;
    uint64_t slice_ns_;
    std::map<uint64_t, GpuLease> leases_;
};

}  // namespace tierd
