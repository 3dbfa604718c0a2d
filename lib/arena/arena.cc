#include "lib/arena/arena.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <array>
#include <cstring>

#include "lib/base/bytes.h"

namespace tierd {

static constexpr uint64_t kSmallPage = 4 * kKiB;

const char* backing_name(Backing backing) noexcept {
    switch (backing) {
        case Backing::shmem_small:
            return "shmem 4k";
        case Backing::shmem_thp:
            return "shmem thp";
        case Backing::hugetlb:
            return "hugetlb 2m";
    }
    return "unknown";
}

// Maps the file at an address that is a multiple of 2 MiB, so that huge pages can be mapped whole.
static Result<Mapping> map_aligned(int fd, uint64_t length_bytes) {
    constexpr uint64_t kAlign = 2 * kMiB;
    void* room =
        ::mmap(nullptr, length_bytes + kAlign, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (room == MAP_FAILED) return os_error("reserve address space for an arena");
    uint64_t begin = reinterpret_cast<uint64_t>(room);
    uint64_t aligned = round_up(begin, kAlign);
    if (aligned > begin) ::munmap(room, aligned - begin);
    uint64_t tail = begin + length_bytes + kAlign - (aligned + length_bytes);
    if (tail > 0) ::munmap(reinterpret_cast<void*>(aligned + length_bytes), tail);
    Mapping reserved(reinterpret_cast<void*>(aligned), length_bytes);
    void* mapped = ::mmap(reserved.data(), length_bytes, PROT_READ | PROT_WRITE,
                          MAP_SHARED | MAP_FIXED | MAP_NORESERVE, fd, 0);
    if (mapped == MAP_FAILED) return os_error("map arena");
    return reserved;
}

Result<Arena> Arena::adopt(Fd writable, Fd readonly, uint64_t length_bytes, Backing backing,
                           bool makes_folios) {
    if (::ftruncate(writable.get(), static_cast<off_t>(length_bytes)) != 0) return os_error("size arena");
    auto mapping = map_aligned(writable.get(), length_bytes);
    if (!mapping) return std::unexpected(mapping.error());
    // A child of tierd (there should be none) must not keep weights alive.
    ::madvise(mapping->data(), length_bytes, MADV_DONTFORK);
    return Arena(std::move(writable), std::move(readonly), std::move(*mapping), backing, makes_folios);
}

uint64_t Arena::page_bytes() const {
    return backing_ == Backing::hugetlb ? 2 * kMiB : 4 * kKiB;
}

void Arena::want_huge_pages(uint64_t offset_bytes, uint64_t length_bytes) const {
    if (backing_ == Backing::shmem_thp) ::madvise(at(offset_bytes), length_bytes, MADV_HUGEPAGE);
}

Result<void> Arena::reserve(uint64_t offset_bytes, uint64_t length_bytes) const {
    if (backing_ != Backing::hugetlb) return {};
    if (::fallocate(writable_.get(), FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset_bytes),
                    static_cast<off_t>(length_bytes)) != 0)
        return os_error("take a huge page", {}, Code::no_space);
    return {};
}

void Arena::populate(uint64_t offset_bytes, uint64_t length_bytes) const {
    ::madvise(at(offset_bytes), length_bytes, MADV_POPULATE_WRITE);
}

void Arena::populate_folios(uint64_t offset_bytes, uint64_t length_bytes) const {
    // The kernel puts no folio where a page of it is there already.
    for (uint64_t end : {offset_bytes, offset_bytes + length_bytes - kSmallPage})
        ::fallocate(writable_.get(), FALLOC_FL_KEEP_SIZE, static_cast<off_t>(end), kSmallPage);
    ::madvise(at(offset_bytes), length_bytes, MADV_HUGEPAGE);
    populate(offset_bytes, length_bytes);
    // Left as it was, khugepaged would make huge pages here, and fill what is absent with zeros.
    ::madvise(at(offset_bytes), length_bytes, MADV_NOHUGEPAGE);
}

Result<void> Arena::store(uint64_t offset_bytes, const char* from, uint64_t length_bytes) const {
    ssize_t stored = ::pwrite(writable_.get(), from, length_bytes, static_cast<off_t>(offset_bytes));
    if (stored < 0) return os_error("store into the arena");
    if (static_cast<uint64_t>(stored) != length_bytes) return fail(Code::io, "store into the arena");
    return {};
}

Result<void> Arena::release(uint64_t offset_bytes, uint64_t length_bytes) const {
    if (::fallocate(writable_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                    static_cast<off_t>(offset_bytes), static_cast<off_t>(length_bytes)) != 0)
        return os_error("release arena memory");
    return {};
}

Result<void> Arena::rearm_page(uint64_t offset_bytes) const {
    std::array<char, kSmallPage> bytes;
    auto at_byte = static_cast<off_t>(offset_bytes);
    if (::lseek(writable_.get(), at_byte, SEEK_DATA) != at_byte)
        return fail(Code::gone, "rearm arena page", {}, "it is not in memory");
    std::memcpy(bytes.data(), at(offset_bytes), kSmallPage);
    if (auto released = release(offset_bytes, kSmallPage); !released) return released;
    if (::pwrite(writable_.get(), bytes.data(), kSmallPage, static_cast<off_t>(offset_bytes)) != kSmallPage)
        return os_error("rearm arena page");
    return {};
}

std::string Arena::name() const {
    struct stat st{};
    if (::fstat(writable_.get(), &st) != 0) return {};
    return std::to_string(major(st.st_dev)) + ":" + std::to_string(minor(st.st_dev)) + ":" +
           std::to_string(st.st_ino);
}

uint64_t Arena::allocated_bytes() const {
    struct stat st{};
    if (::fstat(writable_.get(), &st) != 0) return 0;
    return static_cast<uint64_t>(st.st_blocks) * 512;
}

}  // namespace tierd
