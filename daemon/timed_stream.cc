#include "daemon/timed_stream.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cstring>

#include "lib/base/clock.h"

namespace tierd {
namespace {

boost::system::error_code last_error() {
    return {errno, boost::system::system_category()};
}

// poll(2) counts in whole milliseconds: rounded up, so that a wait never spins just before the deadline.
int milliseconds_until(uint64_t deadline_ns) {
    uint64_t now_ns = monotonic_ns();
    if (now_ns >= deadline_ns) return 0;
    return static_cast<int>(std::min<uint64_t>((deadline_ns - now_ns) / kNsPerMs + 1, 60'000));
}

}  // namespace

bool TimedStream::wait(short events, boost::system::error_code& error) {
    while (true) {
        pollfd waits[2] = {{socket_.get(), events, 0},
                           {stop_, POLLIN, 0}};  // poll(2) ignores a descriptor of -1
        int ready = ::poll(waits, 2, milliseconds_until(deadline_ns_));
        if (ready < 0 && errno != EINTR) {
            error = last_error();
            return false;
        }
        if (ready > 0 && waits[1].revents != 0) {
            error = boost::asio::error::operation_aborted;
            return false;
        }
        if (ready > 0) return true;
        if (monotonic_ns() >= deadline_ns_) {
            error = boost::asio::error::timed_out;
            return false;
        }
    }
}

bool TimedStream::wait_readable(boost::system::error_code& error) {
    return wait(POLLIN, error);
}

size_t TimedStream::receive(void* to, size_t size_bytes, boost::system::error_code& error) {
    error = {};
    // Asking the clock first: a peer that drips bytes for ever is always readable.
    while (monotonic_ns() < deadline_ns_) {
        if (!wait(POLLIN, error)) return 0;
        ssize_t got = ::recv(socket_.get(), to, size_bytes, MSG_DONTWAIT);
        if (got > 0) return static_cast<size_t>(got);
        if (got == 0) error = boost::asio::error::eof;
        if (got < 0 && (errno == EAGAIN || errno == EINTR)) continue;
        if (got < 0) error = last_error();
        return 0;
    }
    error = boost::asio::error::timed_out;
    return 0;
}

size_t TimedStream::send(const void* from, size_t size_bytes, boost::system::error_code& error) {
    error = {};
    while (monotonic_ns() < deadline_ns_) {
        if (!wait(POLLOUT, error)) return 0;
        ssize_t sent = ::send(socket_.get(), from, size_bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent >= 0) return static_cast<size_t>(sent);
        if (errno == EAGAIN || errno == EINTR) continue;
        error = last_error();
        return 0;
    }
    error = boost::asio::error::timed_out;
    return 0;
}

void TimedStream::finish() {
    if (::shutdown(socket_.get(), SHUT_WR) != 0) return;
    char dropped[4096];
    boost::system::error_code error;
    while (!error) receive(dropped, sizeof dropped, error);
}

Result<Fd> connect_unix(const std::string& path, uint32_t timeout_ms) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.empty() || path.size() >= sizeof address.sun_path)
        return fail(Code::bad_input, "connect", path, "a socket's path has 1 to 107 bytes");
    std::memcpy(address.sun_path, path.data(), path.size());
    Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!socket) return os_error("make a socket");
    timeval limit{timeout_ms / 1000, timeout_ms % 1000 * 1000};  // connect(2) waits as long as a send would
    if (::setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) != 0)
        return os_error("set the socket's options");
    if (::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
        return os_error("connect", path);
    return socket;
}

}  // namespace tierd
