// client.h - one request to tierd's control API and its reply.
//
// Owns:      nothing between calls: each call is a connection of its own.
// Invariant: a call ends within kTimeoutMs, whatever program serves the socket.
// Callers:   tierctl's only thread.
// Fails:     with a Failure: the text for people and the exit status for scripts.
#pragma once

#include <expected>
#include <nlohmann/json.hpp>
#include <string>

namespace tierd {

// The exit statuses that docs/tierctl.md promises.
enum class Exit : int {
    ok = 0,
    failed = 1,       // tierd answered that it could not do it
    usage = 2,        // the command line is wrong
    unreachable = 3,  // nobody answers on the socket, or not in tierd's way
};

struct Failure {
    Exit exit = Exit::failed;
    std::string text;  // one line; control characters may be in it
};

using Answer = std::expected<nlohmann::json, Failure>;
using Output = std::expected<std::string, Failure>;  // what a command prints, or why it failed

class Client {
  public:
    static constexpr uint32_t kTimeoutMs = 10'000;

    explicit Client(std::string socket) : socket_(std::move(socket)) {}

    // `target` is an encoded path. `body` may be empty. The answer is tierd's JSON object.
    Answer call(const std::string& method, const std::string& target, const std::string& body = {}) const;

  private:
    Failure unreachable(int err) const;

    std::string socket_;
};

// "a b/c" as "a%20b%2Fc": one segment of a path, whatever bytes it holds.
std::string percent_encode(const std::string& text);

}  // namespace tierd
