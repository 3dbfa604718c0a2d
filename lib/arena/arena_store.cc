#include "lib/arena/arena_store.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "lib/base/bytes.h"

namespace tierd {

namespace {

constexpr const char* kPool = "/sys/kernel/mm/hugepages/hugepages-2048kB/";
constexpr const char* kOvercommit = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_overcommit_hugepages";
// Of the sizes below a huge page: the small one for the ends of an extent. All seven sizes save another 8 % of filling
// (docs/results/faults.md).
constexpr std::array<uint64_t, 2> kFolioKib = {32, 256};

uint64_t pool_count(const char* what) {
    return std::strtoull(ChangedSettings::read(std::string(kPool) + what).c_str(), nullptr, 10);
}

}  // namespace

ArenaStore ArenaStore::discover(HugePages wanted, uint64_t budget_bytes, const std::string& note) {
    ArenaStore store(note);
    if (wanted == HugePages::off) return store;
    store.open_huge_tmpfs();
    if (store.tmpfs_) store.allow_folios();
    if (wanted == HugePages::hugetlb) store.open_hugetlb(budget_bytes, true);
    if (wanted == HugePages::automatic) store.open_hugetlb(budget_bytes, false);
    return store;
}

bool ArenaStore::change_setting(const std::string& path, const std::string& to, const char* else_what) {
    bool changed = settings_.change(path, to);
    if (!changed)
        notes_.push_back(fmt::format("can't set {} to {}: {}", path, to, else_what));
    else if (!settings_.remembered())
        notes_.push_back(fmt::format(
            "{} stays at {} if tierd is killed: the state directory has no record of it", path, to));
    return changed;
}

// A mount of our own takes huge pages without touching the system's shmem_enabled. fsopen(2), fsmount(2).
void ArenaStore::open_huge_tmpfs() {
    Fd context(::fsopen("tmpfs", FSOPEN_CLOEXEC));
    bool made = context && ::fsconfig(context.get(), FSCONFIG_SET_STRING, "huge", "advise", 0) == 0 &&
                ::fsconfig(context.get(), FSCONFIG_SET_STRING, "size", "0", 0) == 0 &&
                ::fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) == 0;
    if (made) tmpfs_ = Fd(::fsmount(context.get(), FSMOUNT_CLOEXEC, 0));
    if (!tmpfs_)
        notes_.push_back(
            fmt::format("no private tmpfs with huge pages ({}): arenas use what shmem_enabled allows; run "
                        "tierd with CAP_SYS_ADMIN for it",
                        std::strerror(errno)));
}

// Kernels before 6.10 have no such folios; there is nothing to be done about it.
void ArenaStore::allow_folios() {
    for (uint64_t kib : kFolioKib) {
        std::string path =
            fmt::format("/sys/kernel/mm/transparent_hugepage/hugepages-{}kB/shmem_enabled", kib);
        std::string now = ChangedSettings::read(path);
        bool may = now == "advise" || now == "always";
        if (now == "never")
            may = change_setting(path, "advise",
                                 "experts take small pages, which cost twice the processor time; set it when "
                                 "the machine starts, as tmpfiles.d/tierd.conf does");
        if (!may) return;
    }
    folios_ = true;
}

// Asks for pages only when they are needed (surplus pages), so an idle tierd holds none.
void ArenaStore::open_hugetlb(uint64_t budget_bytes, bool must) {
    std::string before = ChangedSettings::read(kOvercommit);
    uint64_t wanted_pages = budget_bytes / (2 * kMiB);
    if (before.empty()) {
        if (must)
            notes_.push_back("no hugetlb pages of 2 MiB on this kernel: arenas use transparent huge pages");
        return;
    }
    // A configured pool is the administrator's word that hugetlb is welcome; without one only `must` goes
    // ahead.
    uint64_t limit = pool_count("nr_overcommit_hugepages");
    if (!must && limit == 0 && pool_count("nr_hugepages") == 0) return;
    if (must && limit < wanted_pages)
        change_setting(kOvercommit, std::to_string(wanted_pages),
                       "hugetlb arenas are limited to the pool that is there");
    hugetlb_ = true;
    must_hugetlb_ = must;
    budget_bytes_ = budget_bytes;
}

// Whether the pool can give pages for all of the file, or for as much of it as the budget allows.
bool ArenaStore::hugetlb_holds(uint64_t bytes) const {
    uint64_t free = pool_count("free_hugepages");
    uint64_t reserved = pool_count("resv_hugepages");
    uint64_t limit = pool_count("nr_overcommit_hugepages");
    uint64_t surplus = pool_count("surplus_hugepages");
    uint64_t pages = free - std::min(free, reserved) + limit - std::min(limit, surplus);
    return pages * 2 * kMiB >= std::min(bytes, budget_bytes_);
}

Result<Arena> ArenaStore::make_in_tmpfs(uint64_t length_bytes) const {
    // A name is needed for a moment only, and by this thread alone: the read-only descriptor is opened by it.
    // Mode 0400 refuses reopening for writing.
    std::string name = fmt::format("arena-{}", ::gettid());
    Fd writable(::openat(tmpfs_.get(), name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0400));
    if (!writable) return os_error("create arena");
    Fd readonly(::openat(tmpfs_.get(), name.c_str(), O_RDONLY | O_CLOEXEC));
    if (!readonly) return os_error("open arena read-only");
    ::unlinkat(tmpfs_.get(), name.c_str(), 0);
    return Arena::adopt(std::move(writable), std::move(readonly), length_bytes, Backing::shmem_thp, folios_);
}

Result<Arena> ArenaStore::make_memfd(uint64_t length_bytes, Backing backing) const {
    unsigned flags = MFD_CLOEXEC;
    if (backing == Backing::hugetlb) flags |= MFD_HUGETLB | MFD_HUGE_2MB;
    Fd writable(::memfd_create("tierd-arena", flags));
    if (!writable) return os_error("create arena memfd");
    // Without this a client could reopen its read-only descriptor for writing through /proc.
    if (::fchmod(writable.get(), 0400) != 0) return os_error("protect arena memfd");
    auto readonly = open_file(fmt::format("/proc/self/fd/{}", writable.get()), O_RDONLY);
    if (!readonly) return std::unexpected(readonly.error());
    return Arena::adopt(std::move(writable), std::move(*readonly), length_bytes, backing);
}

Result<Arena> ArenaStore::make_arena(uint64_t length_bytes, uint64_t extent_bytes,
                                     bool may_be_hugetlb) const {
    uint64_t rounded = round_up(std::max<uint64_t>(length_bytes, 1), extent_bytes);
    bool huge_extents = extent_bytes >= 2 * kMiB;
    if (hugetlb_ && may_be_hugetlb && huge_extents && (must_hugetlb_ || hugetlb_holds(rounded))) {
        auto arena = make_memfd(rounded, Backing::hugetlb);
        if (arena) return arena;
    }
    if (tmpfs_ && huge_extents) return make_in_tmpfs(rounded);
    return make_memfd(rounded, Backing::shmem_small);
}

}  // namespace tierd
