#include "lib/model/file_identity.h"

#include <fmt/format.h>
#include <sys/stat.h>

namespace tierd {
namespace {

int64_t to_ns(const timespec& time) {
    return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

}  // namespace

Result<FileIdentity> identify(int fd) {
    struct stat status{};
    if (::fstat(fd, &status) != 0) return os_error("identify file");
    if (!S_ISREG(status.st_mode)) {
        return fail(Code::bad_input, "identify file", "it is not a regular file",
                    "name the weight file itself");
    }
    return FileIdentity{.device = status.st_dev,
                        .inode = status.st_ino,
                        .size_bytes = static_cast<uint64_t>(status.st_size),
                        .mtime_ns = to_ns(status.st_mtim),
                        .ctime_ns = to_ns(status.st_ctim)};
}

std::string identity_key(const FileIdentity& identity) {
    return fmt::format("{}:{}:{}:{}", identity.device, identity.inode, identity.size_bytes,
                       identity.mtime_ns);
}

}  // namespace tierd
