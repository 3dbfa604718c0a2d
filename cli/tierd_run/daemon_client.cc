#include "cli/tierd_run/daemon_client.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <cstring>

#include "daemon/timed_stream.h"
#include "lib/base/clock.h"
#include "lib/session/packet.h"

namespace tierd::run {

bool answers(const std::string& session_socket) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (session_socket.size() >= sizeof address.sun_path) return false;
    std::memcpy(address.sun_path, session_socket.data(), session_socket.size());
    Fd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    // Non-blocking: who never accepts fills its queue, and connect(2) then says EAGAIN instead of waiting.
    if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
        return false;
    auto hello = make_message<wire::Hello>(wire::Kind::hello, 1);
    hello.pid = static_cast<uint32_t>(::getpid());
    if (!send_message(socket.get(), hello)) return false;
    pollfd answer{socket.get(), POLLIN, 0};
    if (::poll(&answer, 1, kAnswerLimit_ms) <= 0) return false;
    auto packet = receive_packet(socket.get());
    if (!packet) return false;
    auto reply = packet->as<wire::Reply>();
    return reply && reply->header.kind == wire::Kind::reply && reply->status == 0;
}

Result<std::string> fetch_status(const std::string& control_socket) {
    namespace http = boost::beast::http;
    constexpr uint32_t kLimit_ms = 2000;
    auto socket = connect_unix(control_socket, kLimit_ms);
    if (!socket) return std::unexpected(socket.error());
    TimedStream stream(std::move(*socket));
    stream.set_deadline_ns(monotonic_ns() + kLimit_ms * kNsPerMs);
    http::request<http::empty_body> request{http::verb::get, "/v1/status", 11};
    request.set(http::field::host, "tierd");
    request.set(http::field::connection, "close");
    boost::system::error_code error;
    http::write(stream, request, error);
    http::response<http::string_body> response;
    boost::beast::flat_buffer buffer;
    if (!error) http::read(stream, buffer, response, error);
    if (error) return fail(Code::io, "read status", control_socket, error.message());
    if (response.result() != http::status::ok)
        return fail(Code::io, "read status", control_socket, response.body());
    return response.body();
}

}  // namespace tierd::run
