// counter_table.h - every counter of the engine: its field, its name in /v1 and its metric. A new counter is a field in counters.h
// and a row here.
//
// Callers:   any thread; constants.
#pragma once

#include <iterator>

#include "lib/placement/counters.h"

namespace tierd {

struct CounterRow {
    const char* name;  // in /v1
    uint64_t EngineCounters::* value;
    const char* metric;  // empty: it is no counter for Prometheus
    const char* labels;  // with braces; empty: none
    const char* help;    // empty: the row continues the metric of the row above
};

// clang-format off
inline constexpr CounterRow kEngineCounters[] = {
    {"epochs", &EngineCounters::epochs, "tierd_epochs_total", "", "Rounds of the policy."},
    {"faults_missing", &EngineCounters::faults_missing, "tierd_faults_total", R"({kind="missing"})", "Touches that faulted: missing waited for a read, minor found the extent in memory, joined waited for a read already under way."},
    {"faults_minor", &EngineCounters::faults_minor, "tierd_faults_total", R"({kind="minor"})", ""},
    {"faults_joined", &EngineCounters::faults_joined, "tierd_faults_total", R"({kind="joined"})", ""},
    {"fills_demand", &EngineCounters::fills_demand, "tierd_fills_total", R"({cause="demand"})", "Extents read into memory."},
    {"fills_read_ahead", &EngineCounters::fills_read_ahead, "tierd_fills_total", R"({cause="read_ahead"})", ""},
    {"fills_preload", &EngineCounters::fills_preload, "tierd_fills_total", R"({cause="preload"})", ""},
    {"fills_wasted", &EngineCounters::fills_wasted, "tierd_fills_wasted_total", "", "Extents read ahead and evicted before any touch."},
    {"bytes_read", &EngineCounters::bytes_read, "tierd_read_bytes_total", "", "Bytes read from weight files."},
    {"bytes_evicted", &EngineCounters::bytes_evicted, "tierd_evicted_bytes_total", "", "Bytes evicted from memory."},
    {"evictions", &EngineCounters::evictions, "tierd_evictions_total", "", "Extents evicted from memory."},
    {"read_errors", &EngineCounters::read_errors, "tierd_read_errors_total", "", "Reads of weight files that failed."},
    {"generations_changed", &EngineCounters::generations_changed, "tierd_generations_changed_total", "", "Weight files found changed while they were served."},
    {"fall_backs_commanded", &EngineCounters::fall_backs_commanded, "tierd_fall_backs_commanded_total", "", "Ranges given back to the kernel's mapping on tierd's command."},
    {"decisions_refused", &EngineCounters::decisions_refused, "tierd_decisions_refused_total", "", "Policy proposals that failed validation."},
    {"moves", &EngineCounters::moves, "tierd_moves_total", "", "Extents that went from one memory tier to another."},
    {"bytes_moved", &EngineCounters::bytes_moved, "tierd_moved_bytes_total", "", "Bytes of them."},
    {"moves_refused", &EngineCounters::moves_refused, "tierd_moves_refused_total", "", "Moves that the kernel refused."},
    {"placements_corrected", &EngineCounters::placements_corrected, "tierd_placements_corrected_total", "", "Extents found in another memory node than they were left in."},
    {"extents_watched", &EngineCounters::extents_watched, "tierd_extents_watched_total", "", "Mapped extents whose next touch was made to be seen."},
    {"hints", &EngineCounters::hints, "tierd_hints_total", R"({seen="hinted"})", "Extents of which the next touch was made to be seen, and those that were touched then."},
    {"hints_touched", &EngineCounters::hints_touched, "tierd_hints_total", R"({seen="touched"})", ""},
    {"huge_mappings", &EngineCounters::huge_mappings, "tierd_huge_mappings_total", "", "Mappings of extents that were made huge."},
    {"sessions_opened", &EngineCounters::sessions_opened, "tierd_sessions_opened_total", "", "Client processes that attached."},
    {"slowest_fault_ns", &EngineCounters::slowest_fault_ns, "", "", ""},
};
// clang-format on
static_assert(std::size(kEngineCounters) * sizeof(uint64_t) == sizeof(EngineCounters),
              "each counter has one row");

}  // namespace tierd
