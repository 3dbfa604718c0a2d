// perf_events.h - for tests: perf events that exist everywhere and carry data addresses. They come through the very
// rings that PEBS and IBS use.
#pragma once

#include <linux/hw_breakpoint.h>
#include <sys/mman.h>

#include <boost/test/unit_test.hpp>
#include <vector>

#include "lib/base/bytes.h"
#include "lib/base/fd.h"
#include "lib/sample/perf_event.h"
#include "lib/sample/perf_source.h"

namespace tierd::test {

// Ends the program as skipped when this process may not open events.
inline void need_perf_events() {
    perf_event_attr attr = sampling_attr(PERF_TYPE_SOFTWARE, PERF_COUNT_SW_PAGE_FAULTS, 1);
    auto opened = open_event(attr, 0, kAnyCpu, "page faults");
    if (opened) return;
    std::fprintf(stderr, "skipped: %s\n", opened.error().text().c_str());
    std::exit(77);
}

// A global fixture of programs that need events.
struct NeedsEvents {
    NeedsEvents() { need_perf_events(); }
};

// Every page fault of this thread, with the address that was touched.
inline PerfSourceConfig page_faults(uint64_t ring_bytes) {
    PerfSourceConfig config;
    config.name = "page-faults";
    config.attr = sampling_attr(PERF_TYPE_SOFTWARE, PERF_COUNT_SW_PAGE_FAULTS, 1);
    config.ring_bytes = ring_bytes;
    config.this_thread = true;
    return config;
}

// Every access of this thread to the eight bytes at `address`.
inline PerfSourceConfig breakpoint(const void* address, uint64_t ring_bytes) {
    PerfSourceConfig config;
    config.name = "breakpoint";
    config.attr = sampling_attr(PERF_TYPE_BREAKPOINT, 0, 1);
    config.attr.bp_type = HW_BREAKPOINT_RW;
    config.attr.bp_addr = reinterpret_cast<uint64_t>(address);
    config.attr.bp_len = HW_BREAKPOINT_LEN_8;
    config.ring_bytes = ring_bytes;
    config.this_thread = true;
    return config;
}

// Memory whose pages fault once each time after forget().
class Pages {
  public:
    explicit Pages(size_t length_bytes)
        : memory_(::mmap(nullptr, length_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
                  length_bytes) {
        ::madvise(memory_.data(), length_bytes, MADV_NOHUGEPAGE);
    }
    volatile char* at(size_t offset) { return memory_.data() + offset; }
    uint64_t address() const { return reinterpret_cast<uint64_t>(memory_.data()); }
    void forget() { ::madvise(memory_.data(), memory_.size_bytes(), MADV_DONTNEED); }

  private:
    Mapping memory_;
};

}  // namespace tierd::test
