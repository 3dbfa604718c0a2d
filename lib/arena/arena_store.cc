#include "lib/arena/arena_store.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/memfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>

#include "lib/base/bytes.h"

namespace tierd {

namespace {

constexpr const char* kPool = "/sys/kernel/mm/hugepages/hugepages-2048kB/";
constexpr const char* kOvercommit = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_overcommit_hugepages";

std::string read_line(const char* path) {
    std::ifstream in(path);
    std::string line;
    std::getline(in, line);
    return line;
}

uint64_t pool_count(const char* what) {
    return std::strtoull(read_line((std::string(kPool) + what).c_str()).c_str(), nullptr, 10);
}

bool write_line(const char* path, const std::string& text) {
    std::ofstream out(path);
    out << text << '\n' << std::flush;
    return out.good();
}

}  // namespace

ArenaStore ArenaStore::discover(HugePages wanted, uint64_t budget_bytes, const std::string& limit_note) {
    ArenaStore store;
    store.note_path_ = limit_note;
    // A tierd that was killed left the limit raised.
    if (store.open_note(0)) store.limit_ = read_line(limit_note.c_str());
    store.restore_limit();
    if (wanted == HugePages::off) return store;
    store.open_huge_tmpfs();
    if (wanted == HugePages::hugetlb) store.open_hugetlb(budget_bytes, true);
    if (wanted == HugePages::automatic) store.open_hugetlb(budget_bytes, false);
    return store;
}

ArenaStore::~ArenaStore() {
    restore_limit();
}

// False where there is none, or where another tierd that lives has it.
bool ArenaStore::open_note(int more_flags) {
    if (note_path_.empty()) return false;
    note_ = Fd(::open(note_path_.c_str(), O_RDWR | O_CLOEXEC | more_flags, 0600));
    if (note_ && ::flock(note_.get(), LOCK_EX | LOCK_NB) == 0) return true;
    note_.reset();
    return false;
}

// The note comes first: a tierd that is killed between the two has changed nothing.
void ArenaStore::raise_limit(uint64_t pages) {
    limit_ = fmt::format("{} {}", read_line(kOvercommit), pages);
    if (!open_note(O_CREAT) || !write_line(note_path_.c_str(), limit_))
        notes_.push_back(
            fmt::format("{} stays raised if tierd is killed: there is no note of it in the state directory",
                        kOvercommit));
    if (write_line(kOvercommit, std::to_string(pages))) return;
    restore_limit();
    notes_.push_back(
        fmt::format("can't raise {}: hugetlb arenas are limited to the pool that is there", kOvercommit));
}

// Where somebody else has changed the limit meanwhile, his word stands.
void ArenaStore::restore_limit() {
    size_t space = limit_.find(' ');
    if (space != std::string::npos && read_line(kOvercommit) == limit_.substr(space + 1))
        write_line(kOvercommit, limit_.substr(0, space));
    limit_.clear();
    if (note_) ::unlink(note_path_.c_str());
    note_.reset();
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

// Asks for pages only when they are needed (surplus pages), so an idle tierd holds none.
void ArenaStore::open_hugetlb(uint64_t budget_bytes, bool must) {
    std::string before = read_line(kOvercommit);
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
    if (must && limit < wanted_pages) raise_limit(wanted_pages);
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
    return Arena::adopt(std::move(writable), std::move(readonly), length_bytes, Backing::shmem_thp);
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
