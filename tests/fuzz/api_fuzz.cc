// api_fuzz.cc - fuzz target: any bytes as requests of the control API, over its real socket. The first byte chooses
// between a request in HTTP's form (method, target and body from the input) and the bytes as they are.
//
// Owns:      one API server with an engine of fixed answers, for the life of the process.
// Callers:   libFuzzer's main or replay_main.cc, one thread.
// Fails:     aborts when an answer is not HTTP, or its JSON can't be read.
#include <sys/socket.h>
#include <sys/un.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>

#include "daemon/api.h"
#include "daemon/api_routes.h"
#include "tests/unit/fake_control.h"

namespace {

using namespace tierd;

struct Target {
    TempFolder folder;
    FakeControl control;
    std::unique_ptr<ApiServer> server;

    Target() {
        auto started = ApiServer::start(control, {.socket = folder.file("control.sock"), .group = {}});
        if (!started) std::abort();
        server = std::move(*started);
    }
};

void fail_with(const char* why, const std::string& what) {
    std::fprintf(stderr, "%s: %s\n", why, what.c_str());
    std::abort();
}

void check_routes(Control& control, const std::string& input) {
    size_t first = input.find('\n');
    size_t second = first == std::string::npos ? first : input.find('\n', first + 1);
    if (second == std::string::npos) return;
    ApiRequest request{input.substr(0, first), input.substr(first + 1, second - first - 1),
                       input.substr(second + 1)};
    ApiResponse response = answer(control, request);
    if (response.status < 200 || response.status > 599)
        fail_with("no status", std::to_string(response.status));
    if (response.content_type == "application/json" && !nlohmann::json::accept(response.body))
        fail_with("no JSON", response.body);
}

// Sends the bytes, says that no more come, and reads what is answered to the end.
void check_socket(const std::string& path, const std::string& input) {
    Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
    if (::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) std::abort();
    (void)!::send(socket.get(), input.data(), input.size(), MSG_NOSIGNAL);
    ::shutdown(socket.get(), SHUT_WR);
    std::string answered;
    char chunk[4096];
    for (ssize_t got; (got = ::recv(socket.get(), chunk, sizeof chunk, 0)) > 0;)
        answered.append(chunk, static_cast<size_t>(got));
    if (!answered.empty() && !answered.starts_with("HTTP/1.")) fail_with("no HTTP", answered);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static Target target;  // a fuzz target has no main of its own to keep it in
    if (size == 0) return 0;
    std::string input(reinterpret_cast<const char*>(data) + 1, size - 1);
    if (data[0] % 2 == 0)
        check_routes(target.control, input);
    else
        check_socket(target.folder.file("control.sock"), input);
    return 0;
}
