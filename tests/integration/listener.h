// listener.h - a unix socket that listens, for tests that stand in for tierd.
//
// Callers:   any thread.
// Fails:     throws std::runtime_error.
#pragma once

#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <string>

#include "lib/base/fd.h"

namespace tierd::itest {

// `kind`: SOCK_SEQPACKET, as sessions and leases are, or SOCK_STREAM, as the control API is.
inline Fd listen_at(const std::string& path, int kind = SOCK_SEQPACKET, int backlog = 8) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    Fd listener(::socket(AF_UNIX, kind | SOCK_CLOEXEC, 0));
    if (::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
        ::listen(listener.get(), backlog) != 0)
        throw std::runtime_error("listen at " + path + ": " + std::strerror(errno));
    return listener;
}

}  // namespace tierd::itest
