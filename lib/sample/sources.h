// sources.h - which sources of access statistics this machine has, the best of them, and why better ones are
// unavailable.
//
// Owns:      nothing.
// Invariant: the check changes no setting of the machine and leaves nothing running.
// Callers:   any thread, at the start; takes a few milliseconds.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "lib/base/result.h"
#include "lib/sample/perf_source.h"
#include "lib/sample/pmu_events.h"

namespace tierd {

// In the order of preference.
struct SourceOffer {
    std::string name;           // pebs, ibs, spe, hint, damon, idle
    std::string record_fields;  // what a record of it holds
    bool available = false;
    std::string unavailable_reason;  // empty: available
    std::string event;               // as the kernel or libpfm4 calls it
};

std::vector<SourceOffer> discover_sources();
// Why these two, which the kernel may have, are not used. `root`: "/sys".
std::string why_no_damon(const std::string& root);
std::string why_no_idle(const std::string& root);

// "pebs" or "ibs", for every process, not yet sampled for longer than it took to see that it works. Errors: why not.
Result<PerfSourceConfig> hardware_source(const std::string& name, PmuUse use = PmuUse::loads);

// What a record of it costs the thread that is sampled, found out on this one: loads of memory, with and without.
// Takes some ten ms.
uint64_t measure_source_cost_ns(PerfSourceConfig config);

}  // namespace tierd
