#include "lib/sample/perf_ring.h"

#include <atomic>
#include <cstring>

namespace tierd {

namespace {

// The kernel writes data before head: acquire makes what lies below it visible.
uint64_t load_head(perf_event_mmap_page* page) {
    return std::atomic_ref(page->data_head).load(std::memory_order_acquire);
}

// Release: the kernel may overwrite what lies below only when we are done with it.
void store_tail(perf_event_mmap_page* page, uint64_t tail) {
    std::atomic_ref(page->data_tail).store(tail, std::memory_order_release);
}

}  // namespace

std::span<const std::byte> PerfRing::whole(uint64_t at, size_t bytes) {
    size_t begin = at & (data_.size() - 1);
    if (bytes <= data_.size() - begin) return data_.subspan(begin, bytes);
    size_t first = data_.size() - begin;
    joined_.resize(bytes);
    std::memcpy(joined_.data(), data_.data() + begin, first);
    std::memcpy(joined_.data() + first, data_.data(), bytes - first);
    wrapped_++;
    return joined_;
}

uint64_t PerfRing::drain(const Visitor& visit, uint64_t most_bytes) {
    const uint64_t begin = page_->data_tail;  // only we write it
    const uint64_t head = load_head(page_);
    uint64_t at = begin;
    while (at != head && at - begin < most_bytes) {
        uint64_t left = head - at;
        perf_event_header header{};
        bool sound = left >= sizeof header && left <= data_.size();
        // Records are multiples of 8 bytes, so a header never wraps.
        if (sound) std::memcpy(&header, data_.data() + (at & (data_.size() - 1)), sizeof header);
        if (!sound || header.size < sizeof header || header.size > left || header.size % 8 != 0) {
            damaged_++;
            at = head;
            break;
        }
        visit(header.type, whole(at, header.size).subspan(sizeof header));
        at += header.size;
    }
    store_tail(page_, at);
    return at - begin;
}

bool PerfRing::half_full() const {
    return load_head(page_) - page_->data_tail > data_.size() / 2;
}

}  // namespace tierd
