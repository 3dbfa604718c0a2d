#include "lib/base/fd.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

namespace tierd {

Fd::~Fd() {
    if (raw_ >= 0) ::close(raw_);
}

Mapping::~Mapping() {
    if (address_ != nullptr) ::munmap(address_, length_bytes_);
}

Result<Fd> open_file(const std::string& path, int flags, mode_t mode) {
    int raw = ::open(path.c_str(), flags | O_CLOEXEC, mode);
    if (raw < 0) return os_error("open", path);
    return Fd(raw);
}

Result<Fd> duplicate(const Fd& fd) {
    int raw = ::fcntl(fd.get(), F_DUPFD_CLOEXEC, 0);
    if (raw < 0) return os_error("duplicate descriptor");
    return Fd(raw);
}

Result<Fd> make_eventfd() {
    int raw = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (raw < 0) return os_error("make an eventfd");
    return Fd(raw);
}

}  // namespace tierd
