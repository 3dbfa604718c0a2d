#include "lib/tier/disk.h"

#include <fmt/format.h>
#include <sys/sysmacros.h>

#include <filesystem>

#include "lib/tier/sysfs.h"

namespace tierd {

namespace {

namespace fs = std::filesystem;

constexpr uint64_t kSectorBytes =
    512;                          // the unit of every `size` in sysfs, whatever the disk's own sectors are
constexpr int kDeepestStack = 8;  // volumes upon volumes: none is deeper

// What virtual disks say of rotating is their host's default and means nothing.
const char* kind_of(const std::string& name, bool rotational) {
    if (name.starts_with("nvme")) return "nvme";
    if (name.starts_with("vd")) return "virtio";
    if (name.starts_with("loop")) return "loop";
    return rotational ? "rotational" : "ssd";
}

}  // namespace

std::optional<Disk> find_disk(dev_t device, const std::string& root) {
    std::error_code error;
    fs::path place = fs::canonical(
        root + "/dev/block/" + std::to_string(major(device)) + ":" + std::to_string(minor(device)), error);
    if (error) return std::nullopt;
    for (int depth = 0; depth < kDeepestStack; depth++) {
        if (fs::exists(place / "partition", error)) place = place.parent_path();
        auto beneath = list_folder(place / "slaves");
        if (beneath.empty()) break;
        fs::path next = fs::canonical(place / "slaves" / beneath.front(), error);
        if (error) break;
        place = next;
    }
    Disk disk;
    disk.name = place.filename();
    disk.size_bytes = read_sysfs_number(place / "size").value_or(0) * kSectorBytes;
    bool rotational = read_sysfs_number(place / "queue/rotational").value_or(0) != 0;
    disk.kind = kind_of(disk.name, rotational);
    for (const char* place_of_serial :
         {"wwid", "device/wwid", "serial", "device/serial", "loop/backing_file"}) {
        disk.serial = read_sysfs_line(place / place_of_serial);
        if (!disk.serial.empty()) break;
    }
    return disk;
}

std::string disk_key(const Disk& disk) {
    // Names change with the order in which disks are found; where there is nothing better, size and name must do.
    return disk.serial.empty() ? fmt::format("{}:{}", disk.name, disk.size_bytes)
                               : fmt::format("{}:{}:{}", disk.kind, disk.serial, disk.size_bytes);
}

}  // namespace tierd
