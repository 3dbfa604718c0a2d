// disk.h - the disk that holds a weight file: the last tier, from which clean bytes can always be read again.
//
// Owns:      nothing; a snapshot.
// Callers:   any thread; reads a few sysfs files.
// Fails:     empty if there is no block device: overlays, network file systems, tmpfs.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace tierd {

struct Disk {
    std::string name;  // "nvme0n1"; a partition's whole disk
    std::string kind;  // "nvme", "virtio", "loop", "ssd" or "rotational"
    uint64_t size_bytes = 0;
    std::string serial =
        {};  // distinguishes it from others of its kind, if it has one; of a loop device, its file

    bool operator==(const Disk&) const = default;
};

struct DiskSpeed {
    uint32_t depth = 0;  // reads under way at once
    uint64_t bytes_per_s = 0;

    bool operator==(const DiskSpeed&) const = default;
};

// What was measured of a disk (disk_probe.h).
struct DiskFigures {
    uint64_t measured_ns = 0;  // CLOCK_REALTIME
    uint64_t latency_ns = 0;   // of a read of 4 KiB alone
    std::vector<DiskSpeed> speeds = {};

    bool operator==(const DiskFigures&) const = default;
};

// The same for the same disk, also after a restart of the machine, as far as disks can be distinguished.
std::string disk_key(const Disk& disk);

// The disk of a file whose st_dev is `device`. Of a volume that stands on several, the first.
std::optional<Disk> find_disk(dev_t device, const std::string& root = "/sys");

}  // namespace tierd
