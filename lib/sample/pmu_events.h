// pmu_events.h - which hardware event samples memory loads on which processor, and how to open it.
//
// Owns:      the table, and libpfm4's state (one per process).
// Invariant: names are libpfm4's; an event that its tables lack gives an error.
// Callers:   PmuLibrary from one thread.
// Source:    libpfm4's tables; Intel's and AMD's lists of events, which tests compare the codes with.
#pragma once

#include <linux/perf_event.h>

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "lib/base/result.h"
#include "lib/sample/record.h"

namespace tierd {

// What an event is good for.
enum class PmuUse : uint8_t {
    loads,          // loads slower than a bound, with address and latency: the one for heat
    l3_misses,      // loads that missed every cache
    local_memory,   // loads from memory of the own socket (DDR, and HBM where the processor has it)
    remote_memory,  // loads from memory of another socket
    far_memory,     // loads from memory behind a link: CXL, persistent memory
    stores,
};
const char* pmu_use_name(PmuUse use) noexcept;  // "l3 misses"
// As the configuration writes them: "l3_misses"; nothing for any other word.
std::optional<PmuUse> pmu_use(std::string_view word) noexcept;
// True when the record is what was asked for, of a source that records accesses of every kind (IBS, SPE).
bool is_of_use(PmuUse use, const AccessRecord& record) noexcept;

struct PmuEvent {
    std::string_view pmu;  // libpfm4's name of the processor's core PMU
    PmuUse use;
    std::string_view name;  // libpfm4's; without the PMU
    uint8_t precise;        // perf_event_attr.precise_ip; 0: counts only, records no addresses
};

std::span<const PmuEvent> pmu_events();

// libpfm4, ready for use from make() on. LIBPFM_FORCE_PMU names another processor than this one.
class PmuLibrary {
  public:
    static Result<PmuLibrary> make();
    ~PmuLibrary();
    PmuLibrary(PmuLibrary&& other) noexcept : live_(std::exchange(other.live_, false)) {}
    PmuLibrary& operator=(PmuLibrary&&) = delete;

    // The core PMU that is in use: "spr"; empty where libpfm4 does not know the processor.
    std::string core_pmu() const;
    // The row of this processor. Errors: unsupported.
    Result<PmuEvent> event_for(PmuUse use) const;
    // Errors: not_found where libpfm4 has no such event, with its own reason.
    Result<perf_event_attr> encode(const std::string& name) const;

  private:
    PmuLibrary() = default;
    bool live_ = true;
};

}  // namespace tierd
