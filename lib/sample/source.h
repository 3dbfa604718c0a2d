// source.h - a source of access records: one interface for PEBS, IBS and everything else in perf's ring or a file.
//
// Owns:      the types; each source owns its descriptors.
// Callers:   one thread per source.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "lib/base/result.h"
#include "lib/sample/record.h"

namespace tierd {

struct SourceCounters {
    uint64_t records = 0;    // that carried an address
    uint64_t lost = 0;       // that the kernel dropped, for want of room in the ring
    uint64_t throttled = 0;  // times that the kernel stopped the event, for costing too much
    uint64_t damaged = 0;    // records, or rests of a ring, that could not be read
    uint64_t wrapped = 0;    // records that lay around a ring's end
};

class SampleSource {
  public:
    using Sink = std::function<void(const AccessRecord&)>;
    virtual ~SampleSource() = default;

    virtual std::string_view name() const = 0;
    // Passes what has come since the last call. Never waits.
    virtual void drain(const Sink& sink) = 0;
    virtual SourceCounters counters() const = 0;
    // One record for every `period` accesses from now on. Errors: what the kernel refused; the period stays.
    virtual Result<void> set_period(uint64_t period) = 0;
    virtual uint64_t period() const = 0;
    // Stops recording, or goes on; without closing anything.
    virtual void set_recording(bool on) = 0;
};

}  // namespace tierd
