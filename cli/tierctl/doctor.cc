#include "cli/tierctl/doctor.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/bpf.h>
#include <linux/perf_event.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "cli/tierctl/text.h"
#include "lib/base/bytes.h"
#include "lib/base/fd.h"

namespace tierd {
namespace {

std::string first_line(const std::string& path) {
    std::ifstream in(path);
    std::string line;
    std::getline(in, line);
    return line;
}

uint64_t number_in(const std::string& path) {
    return std::strtoull(first_line(path).c_str(), nullptr, 10);
}

bool kernel_is_at_least(int major, int minor) {
    utsname name{};
    int have_major = 0, have_minor = 0;
    if (::uname(&name) != 0 || std::sscanf(name.release, "%d.%d", &have_major, &have_minor) != 2)
        return false;
    return have_major > major || (have_major == major && have_minor >= minor);
}

// 6.1: USERFAULTFD_IOC_NEW on the device; continuing shmem pages is older.
Finding kernel() {
    utsname name{};
    ::uname(&name);
    bool enough = kernel_is_at_least(6, 1);
    return {"kernel", enough ? Health::good : Health::bad, name.release,
            enough ? "" : "boot Linux 6.1 or newer: /dev/userfaultfd is needed"};
}

Finding userfaultfd() {
    constexpr const char* kDevice = "/dev/userfaultfd";
    Fd device(::open(kDevice, O_RDWR | O_CLOEXEC));
    if (!device)
        return {"userfaultfd", Health::bad, fmt::format("{}: {}", kDevice, std::strerror(errno)),
                errno == ENOENT ? "use a kernel with CONFIG_USERFAULTFD"
                                : "run tierd as root, or give its user access to the device"};
    Fd made(::ioctl(device.get(), USERFAULTFD_IOC_NEW, O_CLOEXEC));
    uffdio_api api{};
    api.api = UFFD_API;
    if (!made || ::ioctl(made.get(), UFFDIO_API, &api) != 0)
        return {"userfaultfd", Health::bad, std::strerror(errno), "use a kernel with CONFIG_USERFAULTFD"};
    constexpr uint64_t kNeeded = UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MINOR_SHMEM;
    if ((api.features & kNeeded) != kNeeded)
        return {"userfaultfd", Health::bad, fmt::format("features {:#x}", uint64_t{api.features}),
                "use a kernel that reports missing and minor faults of shared memory"};
    if ((api.features & UFFD_FEATURE_WP_HUGETLBFS_SHMEM) == 0)
        return {
            "userfaultfd", Health::lesser, "no write protection of shared memory",
            "engines that map weights for writing stay on the kernel's mapping; Linux 5.19 or newer helps"};
    return {"userfaultfd", Health::good, fmt::format("features {:#x}", uint64_t{api.features}), ""};
}

Finding io_uring() {
    constexpr const char* kSwitch = "/proc/sys/kernel/io_uring_disabled";
    uint64_t disabled = number_in(kSwitch);
    // An impossible call tells whether the real one would be let through: EINVAL or EFAULT, not EPERM or ENOSYS.
    long probed = ::syscall(SYS_io_uring_setup, 0, nullptr);
    bool there = probed < 0 && errno != ENOSYS && errno != EPERM;
    if (there) return {"io_uring", Health::good, "available", ""};
    return {"io_uring", Health::bad, std::strerror(errno),
            disabled > 0 ? fmt::format("set kernel.io_uring_disabled to 0 (it is {})", disabled)
                         : "use a kernel with CONFIG_IO_URING, and let the sandbox pass io_uring_setup"};
}

// A mount of our own takes transparent huge pages whatever the system's shmem_enabled says.
Finding huge_pages() {
    Fd context(::fsopen("tmpfs", FSOPEN_CLOEXEC));
    bool may = context && ::fsconfig(context.get(), FSCONFIG_SET_STRING, "huge", "advise", 0) == 0;
    if (may) return {"huge pages", Health::good, "a private tmpfs with huge pages", ""};
    return {"huge pages", Health::lesser, std::strerror(errno),
            "give tierd CAP_SYS_ADMIN (packaging/tierd.service does): filling takes twice the time from "
            "small pages"};
}

Finding hugetlb() {
    const std::string pool = "/sys/kernel/mm/hugepages/hugepages-2048kB/";
    uint64_t pages = number_in(pool + "nr_hugepages") + number_in(pool + "nr_overcommit_hugepages");
    if (pages > 0)
        return {"hugetlb pool", Health::good,
                fmt::format("{} in pages of 2 MiB", format_bytes(pages * 2 * kMiB)), ""};
    return {"hugetlb pool", Health::lesser, "empty",
            "reserve pages with vm.nr_hugepages where huge_pages = \"hugetlb\" is wanted"};
}

Finding descriptors() {
    rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    constexpr uint64_t kComfortable = 65536;
    bool enough = limit.rlim_max >= kComfortable;
    return {"descriptors", enough ? Health::good : Health::lesser, fmt::format("at most {}", limit.rlim_max),
            enough ? "" : "raise LimitNOFILE to 65536: each session takes four, each weight file two"};
}

// An arena in swap would be read from the wrong disk.
Finding swap() {
    std::ifstream in("/proc/swaps");
    std::string line;
    int areas = -1;
    while (std::getline(in, line)) areas++;
    rlimit limit{};
    ::getrlimit(RLIMIT_MEMLOCK, &limit);
    bool safe = areas <= 0 || limit.rlim_max == RLIM_INFINITY || ::geteuid() == 0;
    return {
        "swap", safe ? Health::good : Health::lesser, areas <= 0 ? "none" : fmt::format("{} areas", areas),
        safe
            ? ""
            : "give tierd CAP_IPC_LOCK, or set memory.swap.max of its cgroup to 0: weights belong to memory"};
}

Finding bpf() {
    bpf_attr wanted{};
    wanted.map_type = BPF_MAP_TYPE_ARRAY;
    wanted.key_size = wanted.value_size = 4;
    wanted.max_entries = 1;
    Fd map(static_cast<int>(::syscall(SYS_bpf, BPF_MAP_CREATE, &wanted, sizeof wanted)));
    if (!map)
        return {"bpf", Health::lesser, std::strerror(errno),
                "give tierd CAP_BPF and CAP_PERFMON to load policies; the built-in ones work without"};
    if (::access("/sys/kernel/btf/vmlinux", R_OK) != 0)
        return {"bpf", Health::lesser, "no /sys/kernel/btf/vmlinux",
                "use a kernel with CONFIG_DEBUG_INFO_BTF"};
    if (!kernel_is_at_least(6, 4))
        return {"bpf", Health::lesser, "no counting iterators",
                "policies that walk extents need Linux 6.4 or newer"};
    return {"bpf", Health::good, "policies can be loaded", ""};
}

Finding samples() {
    std::string source;
    for (const char* device : {"cpu", "cpu_core", "ibs_op", "arm_spe_0"})
        if (std::filesystem::exists(fmt::format("/sys/bus/event_source/devices/{}", device))) source = device;
    std::string paranoid = first_line("/proc/sys/kernel/perf_event_paranoid");
    if (source.empty())
        return {"access samples", Health::lesser, "no hardware counters",
                "tierd learns what is hot from faults; a machine (or a VM with a virtual PMU) with PEBS, IBS "
                "or SPE gives more"};
    perf_event_attr event{};
    event.type = PERF_TYPE_HARDWARE;
    event.size = sizeof event;
    event.config = PERF_COUNT_HW_CPU_CYCLES;
    Fd counter(static_cast<int>(::syscall(SYS_perf_event_open, &event, -1, 0, -1, PERF_FLAG_FD_CLOEXEC)));
    if (counter) return {"access samples", Health::good, source, ""};
    return {
        "access samples", Health::lesser, fmt::format("{}: {}", source, std::strerror(errno)),
        fmt::format("give tierd CAP_PERFMON, or set kernel.perf_event_paranoid to 0 (it is {})", paranoid)};
}

Finding memory_nodes() {
    int nodes = 0, without_processors = 0;
    std::error_code ignored;
    for (const auto& entry : std::filesystem::directory_iterator("/sys/devices/system/node", ignored)) {
        std::string name = entry.path().filename();
        if (name.rfind("node", 0) != 0) continue;
        nodes++;
        if (first_line(entry.path() / "cpulist").empty()) without_processors++;
    }
    return {"memory nodes", Health::good,
            fmt::format("{}, of which {} without processors", nodes, without_processors), ""};
}

// The path itself, or the first file in or beneath the folder that is large enough to tell; empty: none.
std::string some_file_of(const std::string& path) {
    std::error_code ignored;
    if (!std::filesystem::is_directory(path, ignored)) return path;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(path, ignored))
        if (entry.is_regular_file(ignored) && entry.file_size(ignored) >= 4 * kKiB) return entry.path();
    return "";
}

Finding disk_of(const std::string& weights) {
    std::string path = some_file_of(weights);
    if (path.empty())
        return {"weights", Health::bad, weights + " holds no file of 4 KiB or more", "name a weight file"};
    Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file)
        return {"weights", Health::bad, fmt::format("{}: {}", path, std::strerror(errno)),
                "the engine's user must be able to read it"};
    Fd direct(::open(path.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC));
    alignas(4096) static char page[4096];
    if (direct && ::pread(direct.get(), page, sizeof page, 0) > 0)
        return {"weights", Health::good, path + " can be read with O_DIRECT", ""};
    return {"weights", Health::lesser, fmt::format("{}: O_DIRECT: {}", path, std::strerror(errno)),
            "reads go through the page cache, at half the speed; keep weights on ext4, xfs or btrfs"};
}

}  // namespace

const char* health_name(Health health) {
    switch (health) {
        case Health::good:
            return "good";
        case Health::lesser:
            return "lesser";
        case Health::bad:
            return "bad";
    }
    return "unknown";
}

std::string view_findings(const std::vector<Finding>& findings) {
    std::string text;
    for (const Finding& one : findings) {
        const char* mark = one.health == Health::good ? "ok" : one.health == Health::lesser ? "--" : "NO";
        text += fmt::format("{}  {:<15} {}\n", mark, one.what, escape(one.found));
        if (!one.remedy.empty()) text += fmt::format("    {:<15} {}\n", "", escape(one.remedy));
    }
    return text;
}

std::vector<Finding> examine_machine(const std::string& weights) {
    std::vector<Finding> findings = {kernel(), userfaultfd(), io_uring(), huge_pages(), hugetlb(),
                                     swap(),   descriptors(), bpf(),      samples(),    memory_nodes()};
    if (!weights.empty()) findings.push_back(disk_of(weights));
    return findings;
}

}  // namespace tierd
