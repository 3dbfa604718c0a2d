// messages.cc - one wire message with its descriptors, to and from a socket. See session.h for the functions.
#include <string.h>

#include "cuda_shim/host/session.h"
#include "cuda_shim/host/sys.h"

namespace tierd::shim {

namespace {

constexpr uint32_t kMaxFds = 3;

union Control {
    cmsghdr head;
    char bytes[CMSG_SPACE(kMaxFds * sizeof(int))];
};

// Hands out the first `room` descriptors of a message and closes the others.
uint32_t take_descriptors(msghdr& message, int* fds, uint32_t room) {
    uint32_t taken = 0;
    for (cmsghdr* part = CMSG_FIRSTHDR(&message); part != nullptr; part = CMSG_NXTHDR(&message, part)) {
        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
        size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd = -1;
            ::memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof fd);
            if (taken < room)
                fds[taken++] = fd;
            else
                sys::close(fd);
        }
    }
    return taken;
}

}  // namespace

long receive_message(int socket, void* into, uint32_t size_bytes, int* fds, uint32_t room, uint32_t* count) {
    Control control{};
    iovec vector{into, size_bytes};
    msghdr message{};
    message.msg_iov = &vector;
    message.msg_iovlen = 1;
    message.msg_control = control.bytes;
    message.msg_controllen = sizeof control.bytes;
    *count = 0;
    long got = sys::call(SYS_recvmsg, socket, &message, static_cast<int>(MSG_CMSG_CLOEXEC | MSG_DONTWAIT));
    if (got <= 0) return got;
    *count = take_descriptors(message, fds, room);
    wire::Header header{};
    if (static_cast<size_t>(got) >= sizeof header) ::memcpy(&header, into, sizeof header);
    bool right = (message.msg_flags & MSG_TRUNC) == 0 && got == static_cast<long>(size_bytes) &&
                 header.magic == wire::kMagic && header.version == wire::kVersion &&
                 header.size_bytes == size_bytes;
    if (right) return got;
    for (uint32_t i = 0; i < *count; i++) sys::close(fds[i]);
    *count = 0;
    return -EPROTO;
}

long send_message(int socket, const void* message_bytes, uint32_t size_bytes, const int* fds,
                  uint32_t count) {
    Control control{};
    iovec vector{const_cast<void*>(message_bytes), size_bytes};
    msghdr message{};
    message.msg_iov = &vector;
    message.msg_iovlen = 1;
    if (count > 0) {
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(count * sizeof(int));
        cmsghdr* part = CMSG_FIRSTHDR(&message);
        part->cmsg_level = SOL_SOCKET;
        part->cmsg_type = SCM_RIGHTS;
        part->cmsg_len = CMSG_LEN(count * sizeof(int));
        ::memcpy(CMSG_DATA(part), fds, count * sizeof(int));
    }
    long sent = sys::call(SYS_sendmsg, socket, &message, static_cast<int>(MSG_NOSIGNAL | MSG_DONTWAIT));
    return sent < 0 ? sent : 0;
}

}  // namespace tierd::shim
