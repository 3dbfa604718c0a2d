// disk_probe.h - measures how fast a disk reads, at several queue depths, from a file on it.
//
// Owns:      8 MiB of memory and a ring, for the time of the call.
// Invariant: at most kDiskProbeBytes are read, past the page cache, from places where the file has bytes on the disk;
//            nothing is written.
// Callers:   any thread that may wait for the disk: 0.05 to 1 s.
// Fails:     empty if the file can't be read so (too small, sparse, no O_DIRECT), a read fails, or `may_go_on` returns
//            false.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>

#include "lib/base/fd.h"
#include "lib/tier/disk.h"

namespace tierd {

inline constexpr uint64_t kDiskProbeBytes = 64ull << 20;
inline constexpr uint64_t kLeastProbedBytes = 16ull << 20;  // of a file, for it to be measured

// `fd` is any readable descriptor of a regular file; it is opened again. `may_go_on` is asked every few reads.
std::optional<DiskFigures> probe_disk(const Fd& fd, const std::function<bool()>& may_go_on);

}  // namespace tierd
