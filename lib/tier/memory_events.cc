#include "lib/tier/memory_events.h"

#include <linux/netlink.h>
#include <sys/socket.h>

#include <array>
#include <string_view>

namespace tierd {

Result<MemoryEvents> MemoryEvents::open() {
    constexpr unsigned kKernelGroup = 1;  // the kernel's own events; group 2 is udev's
    Fd socket(::socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT));
    if (!socket) return os_error("open the kernel's events");
    sockaddr_nl address{};
    address.nl_family = AF_NETLINK;
    address.nl_groups = kKernelGroup;
    if (::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
        return os_error("listen to the kernel's events");
    return MemoryEvents(std::move(socket));
}

// An event begins "online@/devices/system/memory/memory40".
bool MemoryEvents::changed() {
    bool news = false;
    std::array<char, 8192> event{};
    while (true) {
        sockaddr_nl from{};
        socklen_t length = sizeof from;
        ssize_t got = ::recvfrom(socket_.get(), event.data(), event.size(), 0,
                                 reinterpret_cast<sockaddr*>(&from), &length);
        if (got < 0 && errno == ENOBUFS) return true;
        if (got < 0) return news;
        std::string_view head(event.data(), static_cast<size_t>(got));
        head = head.substr(0, head.find('\0'));
        bool about_memory = head.find("/devices/system/memory/") != head.npos ||
                            head.find("/devices/system/node/") != head.npos ||
                            head.find("/memory_tiering/") != head.npos;
        // The kernel itself has port 0; anybody may send to the socket.
        news = news || (from.nl_pid == 0 && about_memory);
    }
}

}  // namespace tierd
