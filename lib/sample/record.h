// record.h - one memory access, as a source of samples recorded it.
//
// Owns:      nothing; a plain value.
// Invariant: a field that the source does not provide is 0.
#pragma once

#include <cstdint>

namespace tierd {

struct AccessRecord {
    uint64_t time_ns = 0;           // CLOCK_MONOTONIC; of replayed files, the clock they were recorded with
    uint64_t instruction = 0;       // address of the instruction
    uint64_t address = 0;           // of the data, in the process
    uint64_t physical_address = 0;  // of the data, if the kernel reports it
    uint64_t data_source = 0;       // union perf_mem_data_src of <linux/perf_event.h>
    uint64_t period = 1;            // accesses that this one stands for
    uint32_t latency_cycles = 0;    // of the access to memory; 0: the processor reported none
    uint16_t whole_cycles =
        0;  // of the whole instruction, if the kernel reports it (PERF_SAMPLE_WEIGHT_STRUCT)
    uint32_t pid = 0;
    uint32_t tid = 0;
    uint32_t cpu = 0;
};

// The kind of memory that data came from, as the processor saw it.
enum class DataSource : uint8_t {
    unknown,
    cache,
    memory_cache,  // memory in front of other memory, on its side: HBM in cache mode
    local_memory,  // DRAM, and HBM that is a node of its own: the node of the physical address shows which
    remote_memory,
    cxl,
    persistent,
};
const char* data_source_name(DataSource source) noexcept;
// Reads union perf_mem_data_src; unknown for what it doesn't say.
DataSource data_source_of(uint64_t perf_data_source) noexcept;
// What the access did, by the same word.
bool is_load(uint64_t perf_data_source) noexcept;
bool is_store(uint64_t perf_data_source) noexcept;

}  // namespace tierd
