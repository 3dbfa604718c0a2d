#include "lib/placement/fill_queue.h"

#include <algorithm>

namespace tierd {

void FillQueue::demand(ExtentId id) {
    if (!extents_.is(id, TIERD_EXTENT_ABSENT))
        return;  // queued, filling or evicting: settled at the end of that
    extents_.set_state(id, TIERD_EXTENT_QUEUED);
    demand_.push_back(id);
}

Refusal FillQueue::request(ExtentId id, std::deque<ExtentId>& queue) {
    PlacedFile* file = extents_.find(id);
    if (file == nullptr) return Refusal::unknown_extent;
    if (file->changed) return Refusal::changed;
    if (!extents_.is(id, TIERD_EXTENT_ABSENT)) return Refusal::not_absent;
    if (std::find(queue.begin(), queue.end(), id) != queue.end()) return Refusal::not_absent;
    if (queue.size() >= kMaxAhead) return Refusal::too_many;
    queue.push_back(id);
    return Refusal::none;
}

void FillQueue::advise(ExtentId id) {
    if (extents_.is(id, TIERD_EXTENT_ABSENT)) advised_.push_back(id);
}

void FillQueue::forget_advice(const PlacedFile& file) {
    std::erase_if(advised_, [&](ExtentId id) { return file.contains(id); });
}

void FillQueue::throttle_first() {
    throttled_.push_back(demand_.front());
    demand_.pop_front();
}

void FillQueue::resume_throttled() {
    demand_.insert(demand_.end(), throttled_.begin(), throttled_.end());
    throttled_.clear();
}

uint64_t FillQueue::demand_bytes() {
    uint64_t bytes = 0;
    for (ExtentId id : demand_)
        if (extents_.is(id, TIERD_EXTENT_QUEUED)) bytes += extents_[id].bytes;
    return bytes;
}

}  // namespace tierd
