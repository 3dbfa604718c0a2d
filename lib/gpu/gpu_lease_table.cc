#include "lib/gpu/gpu_lease_table.h"

#include <algorithm>
#include <utility>

namespace tierd {

namespace {

constexpr uint64_t kMostSlicesPassedOver = 8;

}  // namespace

bool GpuLeaseTable::want(uint64_t number, uint64_t required_bytes, uint64_t requested_bytes,
                         uint64_t now_ns) {
    auto found = leases_.find(number);
    if (found == leases_.end() || required_bytes > requested_bytes) return false;
    GpuLease& lease = found->second;
    if (lease.requested_bytes == 0) lease.waiting_since_ns = now_ns;
    lease.required_bytes = required_bytes;
    lease.requested_bytes = requested_bytes;
    return true;
}

bool GpuLeaseTable::holds(uint64_t number, uint64_t lease_bytes, uint64_t pinned_bytes) {
    auto found = leases_.find(number);
    if (found == leases_.end() || lease_bytes > found->second.lease_bytes || pinned_bytes > lease_bytes)
        return false;
    found->second.lease_bytes = lease_bytes;
    found->second.pinned_bytes = pinned_bytes;
    found->second.reclaim_target_bytes.reset();
    return true;
}

uint64_t GpuLeaseTable::leased_bytes() const {
    uint64_t sum = 0;
    for (auto& [number, lease] : leases_) sum += lease.lease_bytes;
    return sum;
}

uint64_t GpuLeaseTable::pinned_by_others(uint64_t number) const {
    uint64_t pinned = 0;
    for (auto& [other, lease] : leases_)
        if (other != number) pinned += lease.pinned_bytes;
    return pinned;
}

uint64_t GpuLeaseTable::limit_for(uint64_t number) const {
    return capacity_bytes_ - std::min(pinned_by_others(number), capacity_bytes_);
}

uint64_t GpuLeaseTable::overcommit_limit_for(uint64_t number) const {
    return total_bytes_ - std::min(pinned_by_others(number), total_bytes_);
}

LeaseUpdate GpuLeaseTable::update_for(uint64_t number, uint32_t position) const {
    return {.lease = number,
            .lease_bytes = leases_.at(number).lease_bytes,
            .limit_bytes = limit_for(number),
            .overcommit_bytes = overcommit_limit_for(number),
            .position = position};
}

bool GpuLeaseTable::set_priority(uint64_t number, uint64_t priority) {
    auto found = leases_.find(number);
    return found != leases_.end() && std::exchange(found->second.priority, priority) != priority;
}

std::vector<uint64_t> GpuLeaseTable::queue(uint64_t now_ns) const {
    std::vector<uint64_t> waiting;
    for (auto& [number, lease] : leases_)
        if (lease.requested_bytes > 0) waiting.push_back(number);
    std::ranges::stable_sort(waiting, [&](uint64_t a, uint64_t b) {
        const GpuLease &left = leases_.at(a), &right = leases_.at(b);
        auto is_overdue = [&](const GpuLease& lease) {
            return now_ns > lease.waiting_since_ns + kMostSlicesPassedOver * slice_ns_;
        };
        bool left_overdue = is_overdue(left), right_overdue = is_overdue(right);
        if (left_overdue != right_overdue) return left_overdue;
        if (!left_overdue && left.priority != right.priority) return left.priority > right.priority;
        return left.waiting_since_ns < right.waiting_since_ns;
    });
    return waiting;
}

uint32_t GpuLeaseTable::position_of(uint64_t number, uint64_t now_ns) const {
    auto waiting = queue(now_ns);
    auto found = std::ranges::find(waiting, number);
    return found == waiting.end() ? 0 : static_cast<uint32_t>(found - waiting.begin()) + 1;
}

std::vector<LeaseUpdate> GpuLeaseTable::arbitrate(uint64_t now_ns) {
    std::vector<LeaseUpdate> words;
    const std::vector<uint64_t> waiting = queue(now_ns);
    for (uint64_t number : waiting) {
        GpuLease& lease = leases_.at(number);
        // What it was asked for is on its way: to grant now would cross that answer.
        if (lease.reclaim_target_bytes) break;
        uint64_t goal =
            std::max({std::min(lease.requested_bytes, limit_for(number)),
                      std::min(lease.required_bytes, overcommit_limit_for(number)), lease.lease_bytes});
        uint64_t others = leased_bytes() - lease.lease_bytes;
        uint64_t room = std::max(capacity_bytes_, goal + pinned_by_others(number));
        if (goal + others > room) {
            reclaim(goal + others - room, number, waiting, now_ns, words);
            break;
        }
        if (goal + others > capacity_bytes_) lease.overcommits++;
        lease.lease_bytes = goal;
        lease.requested_bytes = lease.required_bytes = 0;
        lease.granted_ns = now_ns;
        lease.sent_position = 0;
        lease.sent_limit_bytes = limit_for(number);
        words.push_back(update_for(number, 0));
    }
    update_positions(now_ns, words);
    return words;
}

// Orders for `bytes` in all, those counted that were sent and not answered yet.
void GpuLeaseTable::reclaim(uint64_t bytes, uint64_t for_number, std::span<const uint64_t> queue,
                            uint64_t now_ns, std::vector<LeaseUpdate>& words) {
    std::vector<uint64_t> others;
    for (auto& [number, lease] : leases_) {
        if (number == for_number) continue;
        uint64_t coming = lease.reclaim_target_bytes ? lease.lease_bytes - *lease.reclaim_target_bytes : 0;
        bytes -= std::min(bytes, coming);
        if (!lease.reclaim_target_bytes && lease.lease_bytes > lease.pinned_bytes) others.push_back(number);
    }
    // Who waits uses nothing; of those, the last in the queue has the longest to go.
    std::map<uint64_t, size_t> places;
    for (uint64_t number : queue) places[number] = places.size();
    std::ranges::stable_sort(others, [&](uint64_t a, uint64_t b) {
        const GpuLease &left = leases_.at(a), &right = leases_.at(b);
        bool left_waits = left.requested_bytes > 0, right_waits = right.requested_bytes > 0;
        if (left_waits != right_waits) return left_waits;
        if (left_waits) return places.at(a) > places.at(b);
        if (left.priority != right.priority) return left.priority < right.priority;
        return left.granted_ns < right.granted_ns;
    });
    for (uint64_t number : others) {
        if (bytes == 0) return;
        GpuLease& lease = leases_.at(number);
        uint64_t part = std::min(bytes, lease.lease_bytes - lease.pinned_bytes);
        bool waits = lease.requested_bytes > 0;
        lease.reclaim_target_bytes = lease.lease_bytes - part;
        words.push_back({.lease = number,
                         .reclaim = true,
                         .lease_bytes = *lease.reclaim_target_bytes,
                         .not_before_ns = waits ? now_ns : lease.granted_ns + slice_ns_});
        bytes -= part;
    }
}

// Those whose place in the queue, or whose most, has changed since they last heard of it.
void GpuLeaseTable::update_positions(uint64_t now_ns, std::vector<LeaseUpdate>& words) {
    uint32_t position = 0;
    for (uint64_t number : queue(now_ns)) {
        GpuLease& lease = leases_.at(number);
        uint64_t most = limit_for(number);
        if (lease.sent_position == ++position && lease.sent_limit_bytes == most) continue;
        lease.sent_position = position;
        lease.sent_limit_bytes = most;
        words.push_back(update_for(number, position));
    }
}

}  // namespace tierd
