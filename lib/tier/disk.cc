#include "lib/tier/disk.h"

#include <sys/sysmacros.h>

#include <filesystem>

#include "lib/tier/sysfs.h"

namespace tierd {

namespace {

namespace fs = std::filesystem;

constexpr uint64_t kSectorBytes =
    512;                          // the unit of every `size` in sysfs, whatever the disk's own sectors are
constexpr int kDeepestStack = 8;  // volumes upon volumes: none is deeper

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
    disk.kind = disk.name.starts_with("nvme") ? "nvme" : rotational ? "rotational" : "ssd";
    return disk;
}

}  // namespace tierd
