// perf_data.h - reads the files that `perf record` and `perf mem record` write.
//
// Owns:      nothing of the file beyond the call; the events are copied out one at a time.
// Invariant: never reads outside the file's bytes and never trusts a length; the file's size bounds time and memory.
// Callers:   any thread. Blocks on reading the file.
// Fails:     bad_input for a damaged file, with the offset; unsupported for files that this reader does not handle
//            (written to a pipe, compressed, of another byte order), with how to record a file that it does.
// Source:    tools/perf/Documentation/perf.data-file-format.txt of the kernel.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string>

#include "lib/base/result.h"
#include "lib/sample/record.h"

namespace tierd {

// A mapping that began. Of data too, where it was recorded with -d.
struct PerfMmap {
    uint64_t time_ns = 0;
    uint32_t pid = 0;
    uint64_t address = 0;
    uint64_t length_bytes = 0;
    uint64_t offset_bytes = 0;
    std::string path;
    std::string
        inode;  // "0:31:4711", device and inode; empty where it was recorded with build ids in their place
};

struct PerfDataVisitor {
    std::function<void(const AccessRecord&)> sample;
    std::function<void(const PerfMmap&)> mmap;
    std::function<void(uint32_t parent, uint32_t child, uint64_t time_ns)> fork;
    std::function<void(uint32_t pid, uint64_t time_ns)> exit;
};

struct PerfDataCounters {
    uint64_t records = 0;
    uint64_t samples = 0;
    uint64_t without_address = 0;  // samples recorded without -d
    uint64_t unreadable = 0;       // samples whose fields are not known here, or of no known event
    uint64_t lost = 0;             // that the kernel dropped while it was recorded
};

// Visits everything in the order in which it lies in the file, which is not that of time. Visitors may be empty.
Result<PerfDataCounters> read_perf_data(std::span<const std::byte> file, const PerfDataVisitor& visitor);
// The same of a file on disk. Errors: also errno of open(2) and mmap(2).
Result<PerfDataCounters> read_perf_data(const std::string& path, const PerfDataVisitor& visitor);

}  // namespace tierd
