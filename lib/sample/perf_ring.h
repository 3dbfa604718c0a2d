// perf_ring.h - reads the ring that the kernel writes an event's records into.
//
// Owns:      nothing: the owner of the mapping keeps it for as long as the ring.
// Invariant: never reads outside the mapping, whatever the head or a record's size is; every byte is read once.
// Callers:   one thread at a time.
// Fails:     a record with an impossible size makes the rest unreadable: the rest is dropped and counted.
// Source:    perf_event_open(2), "MMAP layout".
#pragma once

#include <linux/perf_event.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace tierd {

class PerfRing {
  public:
    // One record: its type and the bytes after its header. Valid during the call only.
    using Visitor = std::function<void(uint32_t type, std::span<const std::byte> body)>;

    // `data` is the page's ring, a power of two bytes long. `page` is the control page, shared with the kernel.
    PerfRing(perf_event_mmap_page* page, std::span<const std::byte> data) : page_(page), data_(data) {}

    // Visits what is there now, at most `most_bytes` of it. Records are passed as they lie; only one that wraps
    // around the end is put together first. Returns the bytes passed.
    uint64_t drain(const Visitor& visit, uint64_t most_bytes = UINT64_MAX);

    uint64_t damaged() const { return damaged_; }  // times that the rest had to be dropped
    uint64_t wrapped() const { return wrapped_; }  // records that were put together
    // True when a half is filled: it is time to drain.
    bool half_full() const;

  private:
    std::span<const std::byte> whole(uint64_t at, size_t bytes);

    perf_event_mmap_page* page_;
    std::span<const std::byte> data_;
    std::vector<std::byte> joined_;
    uint64_t damaged_ = 0;
    uint64_t wrapped_ = 0;
};

}  // namespace tierd
