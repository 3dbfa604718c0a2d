#include "lib/policy/extent_table.h"

#include <sys/mman.h>

#include <cstring>

namespace tierd {

static constexpr uint32_t kMaxExtents = 16u << 20;

Result<ExtentTable> ExtentTable::make() {
    size_t bytes = size_t{kMaxExtents} * sizeof(tierd_extent);
    void* memory =
        ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return os_error("reserve the extent table");
    return ExtentTable(Mapping(memory, bytes));
}

std::optional<ExtentId> ExtentTable::take(uint32_t count) {
    for (auto [first, capacity] : free_) {
        if (capacity < count) continue;
        free_.erase(first);
        if (capacity > count) free_[first + count] = capacity - count;
        return first;
    }
    if (count > kMaxExtents - end_) return std::nullopt;
    ExtentId first = end_;
    end_ += count;
    return first;
}

Result<void> ExtentTable::share(const BpfTables& tables) {
    if (tables.capacity() < end_) return fail(Code::no_space, "share the extent table with a policy");
    size_t used_bytes = size_t{end_} * sizeof(tierd_extent);
    std::memcpy(tables.extents().data(), rows(), used_bytes);
    return SharedArray::map_over(tables.extents_fd(), rows(), sizeof(tierd_extent), tables.capacity());
}

void ExtentTable::give_back(ExtentId first, uint32_t count) {
    std::memset(&rows()[first], 0, size_t{count} * sizeof(tierd_extent));
    auto at = free_.emplace(first, count).first;
    auto next = std::next(at);
    if (next != free_.end() && at->first + at->second == next->first) {
        at->second += next->second;
        free_.erase(next);
    }
    if (at != free_.begin()) {
        auto before = std::prev(at);
        if (before->first + before->second == at->first) {
            before->second += at->second;
            free_.erase(at);
            at = before;
        }
    }
    if (at->first + at->second == end_) {
        end_ = at->first;
        free_.erase(at);
    }
}

}  // namespace tierd
