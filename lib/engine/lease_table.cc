#include "lib/engine/lease_table.h"

#include <algorithm>
#include <set>

namespace tierd {

void LeaseTable::free_slots_of_the_gone(const std::vector<GpuStatus>& gpus, std::span<tierd_lease> rows) {
    std::set<uint64_t> there;
    for (const GpuStatus& gpu : gpus)
        for (const LeaseStatus& lease : gpu.leases) there.insert(lease.number);
    for (size_t slot = 0; slot < numbers_.size(); slot++) {
        if (there.contains(numbers_[slot])) continue;
        numbers_[slot] = 0;
        rows[slot] = {};
    }
    while (!numbers_.empty() && numbers_.back() == 0) numbers_.pop_back();
}

size_t LeaseTable::slot_of(uint64_t number, std::span<tierd_lease_ctx> marks) {
    auto place = std::ranges::find(numbers_, number);
    if (place == numbers_.end()) {
        place = std::ranges::find(numbers_, uint64_t{0});
        if (place == numbers_.end()) place = numbers_.insert(place, 0);
        *place = number;
        auto slot = static_cast<size_t>(place - numbers_.begin());
        if (slot < marks.size()) marks[slot] = {};
    }
    return static_cast<size_t>(place - numbers_.begin());
}

void LeaseTable::publish(const std::vector<GpuStatus>& gpus, const BpfTables& tables,
                         std::span<tierd_lease_ctx> marks) {
    auto rows = tables.leases();
    free_slots_of_the_gone(gpus, rows);
    gpus_ = static_cast<uint32_t>(std::min<size_t>(gpus.size(), TIERD_MAX_GPUS));
    for (uint32_t number = 0; number < gpus_; number++) {
        const GpuStatus& gpu = gpus[number];
        tierd_gpu& row = tables.gpus()[number];
        row.capacity_bytes = gpu.capacity_bytes;
        row.leased_bytes = gpu.leased_bytes;
        row.leases = static_cast<uint32_t>(gpu.leases.size());
        row.waiting = static_cast<uint32_t>(
            std::ranges::count_if(gpu.leases, [](const LeaseStatus& lease) { return lease.position > 0; }));
        put_name(gpu.name, row.name);
        for (const LeaseStatus& lease : gpu.leases) {
            size_t slot = slot_of(lease.number, marks);
            if (slot >= rows.size()) continue;
            tierd_lease& shown = rows[slot];
            shown.lease_bytes = lease.lease_bytes;
            shown.pinned_bytes = lease.pinned_bytes;
            shown.requested_bytes = lease.requested_bytes;
            shown.waiting_since_ns = lease.waiting_since_ns;
            shown.granted_ns = lease.granted_ns;
            shown.cgroup = lease.holder.cgroup;
            shown.pid = static_cast<uint32_t>(lease.holder.pid);
            shown.uid = lease.holder.uid;
            shown.gpu = number;
            shown.position = lease.position;
            put_name(lease.holder.command, shown.command);
        }
    }
}

std::map<uint64_t, uint64_t> LeaseTable::priorities(std::span<const tierd_lease_ctx> marks) const {
    std::map<uint64_t, uint64_t> priorities;
    for (size_t slot = 0; slot < std::min(numbers_.size(), marks.size()); slot++)
        if (numbers_[slot] != 0 && marks[slot].priority != 0)
            priorities[numbers_[slot]] = marks[slot].priority;
    return priorities;
}

}  // namespace tierd
