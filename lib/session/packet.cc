#include "lib/session/packet.h"

#include <sys/socket.h>

#include <algorithm>

namespace tierd {

static void collect_descriptors(msghdr& message, std::vector<Fd>& fds) {
    for (cmsghdr* part = CMSG_FIRSTHDR(&message); part != nullptr; part = CMSG_NXTHDR(&message, part)) {
        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
        size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int raw = -1;
            std::memcpy(&raw, CMSG_DATA(part) + i * sizeof(int), sizeof raw);
            fds.emplace_back(raw);
        }
    }
}

Result<Packet> receive_packet(int socket) {
    Packet packet;
    iovec vector{packet.bytes.data(), packet.bytes.size()};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(kMaxPacketFds * sizeof(int))> control{};
    msghdr message{};
    message.msg_iov = &vector;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    ssize_t got = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    if (got < 0) return os_error("receive message", {}, errno == EAGAIN ? Code::busy : Code::gone);
    collect_descriptors(message, packet.fds);
    if (got == 0) return fail(Code::gone, "receive message", {}, "the peer closed the connection");
    packet.length_bytes = static_cast<size_t>(got);
    const wire::Header& header = packet.header();
    if ((message.msg_flags & MSG_TRUNC) != 0 || packet.length_bytes < sizeof(wire::Header) ||
        header.magic != wire::kMagic || header.version != wire::kVersion ||
        header.size_bytes != packet.length_bytes)
        return fail(Code::bad_input, "read message", {}, "it is not of this protocol or version");
    return packet;
}

Result<void> send_packet(int socket, std::span<const std::byte> bytes, std::span<const int> fds) {
    iovec vector{const_cast<std::byte*>(bytes.data()), bytes.size()};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(kMaxPacketFds * sizeof(int))> control{};
    msghdr message{};
    message.msg_iov = &vector;
    message.msg_iovlen = 1;
    if (!fds.empty()) {
        message.msg_control = control.data();
        message.msg_controllen = CMSG_SPACE(fds.size_bytes());
        cmsghdr* part = CMSG_FIRSTHDR(&message);
        part->cmsg_level = SOL_SOCKET;
        part->cmsg_type = SCM_RIGHTS;
        part->cmsg_len = CMSG_LEN(fds.size_bytes());
        std::memcpy(CMSG_DATA(part), fds.data(), fds.size_bytes());
    }
    if (::sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        return os_error("send message", {}, errno == EAGAIN ? Code::busy : Code::gone);
    return {};
}

void hang_up(int socket) {
    ::shutdown(socket, SHUT_RDWR);
}

}  // namespace tierd
