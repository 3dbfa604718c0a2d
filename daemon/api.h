// api.h - the control API's server: HTTP/1.1 with JSON on a unix stream socket. docs/api.md is for its users.
//
// Owns:      the listening socket, its file, and the threads that serve connections.
// Invariant: the socket file never has other rights than the configured ones; whatever a client sends or
//            fails to send affects only its own connection, for a bounded time.
// Callers:   main makes and destroys it; Control is called from its threads.
// Fails:     at start(), with the errno and what to do; afterwards an error is sent only to
//            the client that caused it.
#pragma once

#include <sys/types.h>

#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "daemon/api_routes.h"
#include "lib/base/fd.h"

namespace tierd {

struct ApiConfig {
    std::string socket;
    std::optional<gid_t> group;  // its members may connect; none: the own user alone
    uint32_t connections = 16;   // served at once, each by a thread of its own; further ones wait for a place
    uint32_t idle_timeout_ms = 2'000;  // a connection that asks nothing is closed after this
    uint32_t request_timeout_ms =
        5'000;  // from a request's first byte to its last, and as long again for the answer
};

class ApiServer {
  public:
    // Listens and serves until destroyed. Makes the socket's folder where it is missing (its parent must be
    // there) and takes over a socket file that nobody answers on. `control` must outlive the server. Errors:
    // busy where another process answers on that path, bad_config where the path can't be a socket, else the
    // errno.
    static Result<std::unique_ptr<ApiServer>> start(Control& control, const ApiConfig& config);

    // Ends every connection, at once for those that wait for a client, and removes the socket file.
    ~ApiServer();
    ApiServer(const ApiServer&) = delete;
    ApiServer& operator=(const ApiServer&) = delete;

  private:
    ApiServer(Control& control, const ApiConfig& config, Fd listener, Fd stop);
    void serve_connections();
    void serve_connection(Fd socket);

    Control& control_;
    const ApiConfig config_;
    Fd listener_;  // non-blocking: several threads wait for the same connection and one gets it
    Fd stop_;      // eventfd, readable from the destructor on
    std::vector<std::thread> threads_;  // last: they use everything above
};

}  // namespace tierd
