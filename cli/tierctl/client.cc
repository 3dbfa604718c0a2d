#include "cli/tierctl/client.h"

#include <fmt/format.h>

#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>

#include "daemon/timed_stream.h"
#include "lib/base/bytes.h"
#include "lib/base/clock.h"

namespace tierd {
namespace {

namespace http = boost::beast::http;
using nlohmann::json;

// Generous for the tensors of the largest model, and still an end for what is not tierd.
constexpr uint64_t kMaxAnswerBytes = 1 * kGiB;

bool is_unreserved(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_' || c == '~';
}

// The line for people in an error answer; the answer's own text where it has no such form.
std::string error_text(const json& body, unsigned status) {
    if (!body.is_object() || !body.contains("error") || !body["error"].is_object())
        return fmt::format("tierd answered with HTTP status {}", status);
    const json& error = body["error"];
    std::string text = error.value("message", std::string("no message"));
    std::string hint = error.value("hint", std::string());
    return hint.empty() ? text : text + "; " + hint;
}

}  // namespace

Failure Client::unreachable(int err) const {
    const char* advice = "is it running? systemctl start tierd, or use tierd-run";
    if (err == EACCES || err == EPERM)
        advice = "run as root, or as a member of the group that [control] group names";
    if (err == EAGAIN) advice = "it is too busy to accept connections; look at its log: journalctl -u tierd";
    return {Exit::unreachable,
            fmt::format("tierd can't be reached at {}: {}; {}", socket_, std::strerror(err), advice)};
}

Answer Client::call(const std::string& method, const std::string& target, const std::string& body) const {
    auto socket = connect_unix(socket_, kTimeoutMs);
    if (!socket && socket.error().err == 0)
        return std::unexpected(Failure{Exit::usage, socket.error().text()});
    if (!socket) return std::unexpected(unreachable(socket.error().err));
    TimedStream stream(std::move(*socket));
    stream.set_deadline_ns(monotonic_ns() + kTimeoutMs * kNsPerMs);

    http::request<http::string_body> request{http::string_to_verb(method), target, 11};
    request.set(http::field::host, "tierd");
    request.set(http::field::user_agent, "tierctl/" TIERD_VERSION);
    request.keep_alive(false);
    request.body() = body;
    request.prepare_payload();
    boost::system::error_code error;
    http::write(stream, request, error);
    boost::beast::flat_buffer buffer;
    http::response_parser<http::string_body> parser;
    parser.body_limit(kMaxAnswerBytes);
    if (!error) http::read(stream, buffer, parser, error);
    if (error == boost::asio::error::timed_out)
        return std::unexpected(Failure{
            Exit::unreachable, fmt::format("tierd does not answer at {} within {} s; look at its log: "
                                           "journalctl -u tierd",
                                           socket_, kTimeoutMs / 1000)});
    json answer = error ? json() : json::parse(parser.get().body(), nullptr, false);
    if (error || answer.is_discarded())
        return std::unexpected(Failure{
            Exit::unreachable,
            fmt::format("what answers at {} does not speak as tierd does{}; is that its control socket?",
                        socket_, error ? " (" + error.message() + ")" : "")});
    unsigned status = parser.get().result_int();
    if (status >= 300) return std::unexpected(Failure{Exit::failed, error_text(answer, status)});
    return answer;
}

std::string percent_encode(const std::string& text) {
    std::string out;
    for (char c : text) {
        if (is_unreserved(c))
            out += c;
        else
            out += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
    return out;
}

}  // namespace tierd
