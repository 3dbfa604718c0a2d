#include "lib/engine/inotify.h"

#include <fmt/format.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <array>

namespace tierd {

Result<FileWatch> FileWatch::make() {
    Fd fd(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
    if (!fd) return os_error("make an inotify descriptor");
    return FileWatch(std::move(fd));
}

int FileWatch::add(int fd) {
    return ::inotify_add_watch(fd_.get(), fmt::format("/proc/self/fd/{}", fd).c_str(), IN_MODIFY | IN_ATTRIB);
}

void FileWatch::remove(int watch) {
    ::inotify_rm_watch(fd_.get(), watch);
}

std::vector<int> FileWatch::read() {
    std::vector<int> watches;
    alignas(inotify_event) std::array<char, 4096> buffer{};
    while (true) {
        ssize_t got = ::read(fd_.get(), buffer.data(), buffer.size());
        if (got <= 0) return watches;
        for (ssize_t at = 0; at < got;) {
            const auto* event = reinterpret_cast<const inotify_event*>(buffer.data() + at);
            watches.push_back(event->wd);
            at += static_cast<ssize_t>(sizeof(inotify_event) + event->len);
        }
    }
}

}  // namespace tierd
