// perf_sample.h - decodes the body of one PERF_RECORD_SAMPLE, from perf's ring or from a perf.data file.
//
// Owns:      nothing.
// Invariant: never reads beyond the given bytes, whatever they contain.
// Callers:   any thread.
// Source:    perf_event_open(2), "PERF_RECORD_SAMPLE".
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "lib/sample/record.h"

namespace tierd {

// PERF_SAMPLE_WEIGHT_STRUCT of Linux 5.12, which older headers lack: three latencies in the place of one weight.
inline constexpr uint64_t kSampleWeightStruct = 1u << 24;

// What an event put into its samples.
struct SampleFormat {
    uint64_t fields = 0;       // PERF_SAMPLE_*
    uint64_t read_format = 0;  // PERF_FORMAT_*
    uint64_t user_registers = 0;
    uint64_t interrupt_registers = 0;
    bool branch_hardware_index = false;  // PERF_SAMPLE_BRANCH_HW_INDEX
};

// False when the bytes end before what the format promises, or the format holds what is not known here.
bool parse_sample(std::span<const std::byte> body, const SampleFormat& format, AccessRecord& out);

// True when parse_sample() knows every field of the format.
bool is_readable(const SampleFormat& format);

}  // namespace tierd
