// packet.h - one wire message with its descriptors, over a SOCK_SEQPACKET socket.
//
// Invariant: descriptors of a message get an owner at once (close-on-exec); surplus ones are closed.
// Callers:   any thread; one thread per socket and direction.
// Fails:     gone if the peer closed, bad_input for a message that violates the protocol, busy if the peer does not
//            read.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "lib/base/fd.h"
#include "lib/session/wire.h"

namespace tierd {

inline constexpr size_t kMaxPacketBytes = 512;
inline constexpr size_t kMaxPacketFds = 3;

struct Packet {
    alignas(8) std::array<char, kMaxPacketBytes> bytes{};
    size_t length_bytes = 0;
    std::vector<Fd> fds;

    const wire::Header& header() const { return *reinterpret_cast<const wire::Header*>(bytes.data()); }

    // The message as `T`, when its kind and its size are T's. Errors: bad_input.
    template <class T>
    Result<T> as() const {
        if (length_bytes != sizeof(T))
            return fail(Code::bad_input, "read message", {}, "its size does not fit its kind");
        T message;
        std::memcpy(&message, bytes.data(), sizeof(T));
        return message;
    }
};

// Waits for one packet (the socket must be readable, or blocking) and checks its header.
Result<Packet> receive_packet(int socket);

// Sends without blocking. Errors: busy when the peer's queue is full, gone when it left.
Result<void> send_packet(int socket, std::span<const std::byte> message, std::span<const int> fds);

// Ends the channel for both sides, also if another process holds the socket.
void hang_up(int socket);

template <class T>
Result<void> send_message(int socket, const T& message, std::span<const int> fds = {}) {
    return send_packet(socket, std::as_bytes(std::span(&message, 1)), fds);
}

template <class T>
T make_message(wire::Kind kind, uint32_t sequence) {
    T message{};
    message.header = {wire::kMagic, wire::kVersion, kind, sizeof(T), sequence};
    return message;
}

}  // namespace tierd
