// counters.h - what the engine counts, from its start on. Callers: the engine's thread writes; snapshots go anywhere.
#pragma once

#include <cstdint>

namespace tierd {

// Counters since the start; they only grow.
struct EngineCounters {
    uint64_t epochs = 0;          // rounds of the policy
    uint64_t faults_missing = 0;  // demand misses: the toucher waited for a read
    uint64_t faults_minor = 0;    // the extent was resident, only not mapped there
    uint64_t faults_joined = 0;   // demand misses that joined a read already under way
    uint64_t fills_demand = 0;
    uint64_t fills_read_ahead = 0;
    uint64_t fills_preload = 0;
    uint64_t fills_wasted = 0;  // read ahead and evicted before any touch
    uint64_t bytes_read = 0;    // from origins
    uint64_t bytes_evicted = 0;
    uint64_t evictions = 0;
    uint64_t read_errors = 0;
    uint64_t generations_changed = 0;   // files found changed while they were served
    uint64_t fall_backs_commanded = 0;  // ranges given back to the kernel's mapping on tierd's order
    uint64_t decisions_refused = 0;     // policy proposals that failed validation
    uint64_t sessions_opened = 0;
    uint64_t moves = 0;  // extents that went from one memory tier to another
    uint64_t bytes_moved = 0;
    uint64_t moves_refused = 0;         // by the kernel: no memory in the node, pages in use
    uint64_t placements_corrected = 0;  // extents found in another node than we left them in
    uint64_t extents_watched = 0;       // mapped extents whose next touch was made to be seen
    uint64_t huge_mappings = 0;         // extents that stay, mapped by one entry of the page table
    uint64_t slowest_fault_ns = 0;      // arrival to CONTINUE
    uint64_t hints = 0;  // extents of which the next touch was made to be seen, to learn how hot they are
    uint64_t hints_touched = 0;  // touches seen so, also those that a policy had asked for
};

}  // namespace tierd
