#include "daemon/api.h"

#include <fmt/format.h>
#include <poll.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <cstring>
#include <filesystem>

#include "daemon/timed_stream.h"
#include "lib/base/clock.h"
#include "lib/base/worker.h"

namespace tierd {
namespace {

namespace http = boost::beast::http;
using boost::system::error_code;

constexpr uint32_t kMaxHeadBytes = 16 * 1024;  // a percent-encoded path of 4096 bytes takes 12 KiB
constexpr uint64_t kMaxBodyBytes = 64 * 1024;
constexpr uint64_t kMaxPolicyBytes = 6 * 1024 * 1024;  // an object of 4 MiB in base64
constexpr uint32_t kFinishMs = 500;

uint64_t in_ms(uint32_t milliseconds) {
    return monotonic_ns() + milliseconds * kNsPerMs;
}

// Removes the socket file that a tierd which died left behind.
Result<void> clear_path(const std::string& path) {
    struct stat info{};
    if (::lstat(path.c_str(), &info) != 0) {
        if (errno == ENOENT) return {};
        return os_error("look at control socket", path);
    }
    if (!S_ISSOCK(info.st_mode))
        return fail(Code::bad_config, "make control socket", path,
                    "something else is there; name another path");
    if (auto other = connect_unix(path, 1000); other || other.error().err != ECONNREFUSED)
        return fail(Code::busy, "make control socket", path,
                    "another tierd answers there; stop it or name another path");
    if (::unlink(path.c_str()) != 0 && errno != ENOENT) return os_error("remove old control socket", path);
    return {};
}

// Between bind(2) and listen(2) nobody can connect: that is when the file gets its rights.
Result<Fd> listen_on(const ApiConfig& config) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (config.socket.empty() || config.socket.size() >= sizeof address.sun_path)
        return fail(Code::bad_config, "make control socket", config.socket,
                    "a socket's path has 1 to 107 bytes");
    std::memcpy(address.sun_path, config.socket.data(), config.socket.size());
    std::string folder = std::filesystem::path(config.socket).parent_path();
    if (!folder.empty() && ::mkdir(folder.c_str(), 0755) != 0 && errno != EEXIST)
        return os_error("make folder", folder);
    if (auto cleared = clear_path(config.socket); !cleared) return std::unexpected(cleared.error());

    Fd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!listener) return os_error("make a socket");
    if (::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
        return os_error("make control socket", config.socket);
    if (config.group && ::chown(config.socket.c_str(), static_cast<uid_t>(-1), *config.group) != 0)
        return os_error(fmt::format("give control socket to group {}", *config.group), config.socket);
    if (::chmod(config.socket.c_str(), config.group ? 0660 : 0600) != 0)
        return os_error("set rights of control socket", config.socket);
    if (::listen(listener.get(), 64) != 0) return os_error("listen", config.socket);
    return listener;
}

ApiResponse body_too_large() {
    return error_response(
        413, {Code::bad_input, 0, "read request", {}, "a body has at most 64 KiB, a policy's 6 MiB"});
}

// What a failed read is worth telling the client. Status 0: nothing, the connection just ends.
ApiResponse read_failure(error_code error, bool began) {
    if (error == http::error::body_limit) return body_too_large();
    if (error == http::error::header_limit)
        return error_response(
            431, {Code::bad_input, 0, "read request", {}, "a request's head has at most 16 KiB"});
    if (error == boost::asio::error::timed_out && began)
        return error_response(408, {Code::bad_input, 0, "read request", {}, "send a request without pauses"});
    bool ended = error == http::error::end_of_stream || error == http::error::partial_message;
    if (error.category() == http::make_error_code(http::error::end_of_stream).category() && !ended)
        return error_response(400,
                              {Code::bad_input, 0, "read request: " + error.message(), {}, "speak HTTP/1.1"});
    ApiResponse nothing;
    nothing.status = 0;
    return nothing;
}

ApiResponse guarded_answer(Control& control, const http::request<http::string_body>& request) {
    bool is_policy = request.target() == "/v1/policy";
    if (!is_policy && request.body().size() > kMaxBodyBytes) return body_too_large();
    try {
        return answer(control,
                      {std::string(request.method_string()), std::string(request.target()), request.body()});
    } catch (const std::exception& trouble) {
        spdlog::error("control API: {} {}: {}", std::string(request.method_string()),
                      std::string(request.target()), trouble.what());
        return error_response(500, {Code::kernel_refused, 0, trouble.what(), {}, "see tierd's log"});
    }
}

// An answer to HEAD ends with its head: a body would be taken for the next answer.
bool send_response(TimedStream& stream, ApiResponse& response, bool keep_alive, bool without_body) {
    http::response<http::string_body> message{static_cast<http::status>(response.status), 11};
    message.set(http::field::server, "tierd/" TIERD_VERSION);
    message.set(http::field::content_type, response.content_type);
    if (!response.allow.empty()) message.set(http::field::allow, response.allow);
    if (!response.location.empty()) message.set(http::field::location, response.location);
    message.keep_alive(keep_alive);
    message.body() = std::move(response.body);
    message.prepare_payload();
    if (without_body) message.body().clear();
    error_code error;
    http::write(stream, message, error);
    return !error;
}

}  // namespace

Result<std::unique_ptr<ApiServer>> ApiServer::start(Control& control, const ApiConfig& config) {
    auto stop = make_eventfd();
    if (!stop) return std::unexpected(stop.error());
    auto listener = listen_on(config);
    if (!listener) return std::unexpected(listener.error());
    return std::unique_ptr<ApiServer>(new ApiServer(control, config, std::move(*listener), std::move(*stop)));
}

ApiServer::ApiServer(Control& control, const ApiConfig& config, Fd listener, Fd stop)
    : control_(control), config_(config), listener_(std::move(listener)), stop_(std::move(stop)) {
    for (uint32_t i = 0; i < config_.connections; i++)
        threads_.emplace_back([this] {
            name_this_thread("tierd-api");
            serve_connections();
        });
}

ApiServer::~ApiServer() {
    ::unlink(config_.socket.c_str());
    ::eventfd_write(stop_.get(), 1);
    for (std::thread& thread : threads_) thread.join();
}

void ApiServer::serve_connections() {
    while (true) {
        pollfd waits[2] = {{listener_.get(), POLLIN, 0}, {stop_.get(), POLLIN, 0}};
        if (::poll(waits, 2, -1) < 0 && errno != EINTR) return;
        if (waits[1].revents != 0) return;
        Fd socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
        if (!socket) {
            // Out of descriptors: the connection stays in the queue; a pause keeps the loop from spinning
            // until some are free.
            if (errno == EMFILE || errno == ENFILE) ::poll(&waits[1], 1, 100);
            continue;
        }
        try {
            serve_connection(std::move(socket));
        } catch (const std::exception& trouble) {
            spdlog::error("control API: a connection ended: {}", trouble.what());
        }
    }
}

void ApiServer::serve_connection(Fd socket) {
    TimedStream stream(std::move(socket), stop_.get());
    boost::beast::flat_buffer buffer(kMaxHeadBytes + kMaxPolicyBytes);
    bool more = true;
    while (more) {
        error_code error;
        stream.set_deadline_ns(in_ms(config_.idle_timeout_ms));
        if (buffer.size() == 0 && !stream.wait_readable(error)) return;

        http::request_parser<http::string_body> parser;
        parser.header_limit(kMaxHeadBytes);
        parser.body_limit(kMaxPolicyBytes);
        stream.set_deadline_ns(in_ms(config_.request_timeout_ms));
        http::read(stream, buffer, parser, error);
        more = !error && parser.get().keep_alive();
        ApiResponse response =
            error ? read_failure(error, parser.got_some()) : guarded_answer(control_, parser.get());
        if (response.status == 0) return;
        stream.set_deadline_ns(in_ms(config_.request_timeout_ms));
        bool is_head = !error && parser.get().method() == http::verb::head;
        if (!send_response(stream, response, more, is_head)) return;
    }
    stream.set_deadline_ns(in_ms(kFinishMs));
    stream.finish();
}

}  // namespace tierd
