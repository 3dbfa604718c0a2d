#include "lib/io/origin.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/magic.h>
#include <sys/statfs.h>

#include <algorithm>
#include <array>

namespace tierd {

bool Origin::unchanged() const {
    auto now = identify(fd.get());
    return now && *now == identity;
}

void Origin::leave_direct() {
    int flags = ::fcntl(fd.get(), F_GETFL);
    ::fcntl(fd.get(), F_SETFL, flags & ~O_DIRECT);
    direct = false;
}

void Origin::drop_cache(uint64_t offset_bytes, uint64_t length_bytes) const {
    ::posix_fadvise(fd.get(), static_cast<off_t>(offset_bytes), static_cast<off_t>(length_bytes),
                    POSIX_FADV_DONTNEED);
}

// File systems whose fstat(2) answers from memory; anything else (network, FUSE) may hang and is asked
// asynchronously.
static bool is_local(int fd) {
    constexpr uint64_t kXfsMagic = 0x58465342, kZfsMagic = 0x2fc12fc1, kBcachefsMagic = 0xca451a4e;
    constexpr std::array<uint64_t, 8> kLocal = {
        EXT4_SUPER_MAGIC, kXfsMagic,      BTRFS_SUPER_MAGIC, TMPFS_MAGIC,
        F2FS_SUPER_MAGIC, kBcachefsMagic, kZfsMagic,         OVERLAYFS_SUPER_MAGIC};
    struct statfs fs{};
    if (::fstatfs(fd, &fs) != 0) return false;
    return std::find(kLocal.begin(), kLocal.end(), static_cast<uint64_t>(fs.f_type)) != kLocal.end();
}

Result<Origin> open_origin(const Fd& client_fd, bool direct) {
    int flags = ::fcntl(client_fd.get(), F_GETFL);
    if (flags < 0) return os_error("inspect the client's descriptor");
    if ((flags & O_PATH) != 0 || (flags & O_ACCMODE) == O_WRONLY)
        return fail(Code::denied, "attach", {}, "the descriptor can't be read from");
    auto identity = identify(client_fd.get());
    if (!identity) return std::unexpected(identity.error());

    Origin origin{.fd = {}, .direct = false, .local_disk = is_local(client_fd.get()), .identity = *identity};
    if (direct) {
        auto again = open_file(fmt::format("/proc/self/fd/{}", client_fd.get()), O_RDONLY | O_DIRECT);
        // The reopened file must be the very same one; anything else and we read through the client's
        // descriptor.
        if (again && identify(again->get()) == *identity) {
            origin.fd = std::move(*again);
            origin.direct = true;
            return origin;
        }
    }
    auto copy = duplicate(client_fd);
    if (!copy) return std::unexpected(copy.error());
    origin.fd = std::move(*copy);
    return origin;
}

}  // namespace tierd
