#include "tests/simcuda/driver/managed.h"

#include <algorithm>

namespace simcuda {
namespace {
constexpr uint64_t kChunkBytes = 2 << 20;
}

void Managed::add(uint64_t base, uint64_t bytes) {
    std::lock_guard lock(mutex_);
    Range range;
    range.bytes = bytes;
    range.on_card.resize((bytes + kChunkBytes - 1) / kChunkBytes);
    ranges_.emplace(base, std::move(range));
}

void Managed::remove(uint64_t base) {
    std::lock_guard lock(mutex_);
    auto it = ranges_.find(base);
    if (it == ranges_.end()) return;
    for (uint64_t i = 0; i < it->second.on_card.size(); ++i)
        if (it->second.on_card[i]) card_.refund(chunk_bytes(it->second, i));
    oldest_first_.remove_if([&](const Chunk& chunk) { return chunk.range == base; });
    ranges_.erase(it);
}

uint64_t Managed::prefetch(uint64_t address, uint64_t bytes, bool to_device, uint64_t start_ns) {
    std::lock_guard lock(mutex_);
    auto it = find(address);
    if (it == ranges_.end()) return start_ns;
    auto& [base, range] = *it;
    range.advice.last_prefetch = to_device ? 0 : -1;
    uint64_t end_ns = start_ns;
    uint64_t last = std::min(address + bytes, base + range.bytes);
    for (uint64_t i = (address - base) / kChunkBytes; base + i * kChunkBytes < last; ++i) {
        if (range.on_card[i] == to_device) continue;
        if (!to_device)
            send_home(base, range, i, &end_ns);
        else if (!bring(base, range, i, &end_ns))
            break;
    }
    return end_ns;
}

uint64_t Managed::bytes_on_card(uint64_t base) const {
    std::lock_guard lock(mutex_);
    auto it = ranges_.find(base);
    if (it == ranges_.end()) return 0;
    uint64_t sum = 0;
    for (uint64_t i = 0; i < it->second.on_card.size(); ++i)
        if (it->second.on_card[i]) sum += chunk_bytes(it->second, i);
    return sum;
}

std::map<uint64_t, Managed::Range>::iterator Managed::find(uint64_t address) {
    auto it = ranges_.upper_bound(address);
    if (it == ranges_.begin()) return ranges_.end();
    --it;
    return address < it->first + it->second.bytes ? it : ranges_.end();
}

uint64_t Managed::chunk_bytes(const Range& range, uint64_t index) const {
    return std::min(kChunkBytes, range.bytes - index * kChunkBytes);
}

bool Managed::bring(uint64_t base, Range& range, uint64_t index, uint64_t* end_ns) {
    uint64_t bytes = chunk_bytes(range, index);
    while (!card_.charge(bytes)) {
        if (oldest_first_.empty()) return false;
        Chunk victim = oldest_first_.front();
        send_home(victim.range, ranges_.at(victim.range), victim.index, end_ns);
    }
    range.on_card[index] = true;
    oldest_first_.push_back({base, index});
    *end_ns = card_.take_link(Direction::to_device, *end_ns, bytes);
    return true;
}

void Managed::send_home(uint64_t base, Range& range, uint64_t index, uint64_t* end_ns) {
    uint64_t bytes = chunk_bytes(range, index);
    range.on_card[index] = false;
    oldest_first_.remove_if([&](const Chunk& chunk) { return chunk.range == base && chunk.index == index; });
    card_.refund(bytes);
    *end_ns = card_.take_link(Direction::to_host, *end_ns, bytes);
}

}  // namespace simcuda
