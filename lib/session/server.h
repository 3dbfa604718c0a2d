// server.h - accepts shims on the session socket and runs the wire protocol with each of them.
//
// Owns:      the listening socket, one thread per session.
// Invariant: nothing from a client is trusted: the server checks sizes, kinds and order, the handler checks ranges. A
//            violation ends that session and has no other effect. A client that hangs or does not read delays no other.
// Callers:   start() and stop() from main.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "lib/base/fd.h"
#include "lib/session/handler.h"

namespace tierd {

struct ServerConfig {
    std::string socket_path;        // made with mode 0666: the file's own rights decide who may read weights
    Fd inherited_socket;            // from systemd's socket activation; then socket_path is not made
    std::string group;              // its members get /dev/userfaultfd; empty: root and tierd's own user only
    bool user_mode_faults = false;  // may the others be served with a user-mode-only userfaultfd?
    uint32_t deadline_ms = 500;
    uint32_t max_sessions = 1024;
};

class Server {
  public:
    // Listens and serves. `handler` must outlive the server. Errors: bad_config (unknown group), errno of
    // bind(2) with the path.
    static Result<std::unique_ptr<Server>> start(ServerConfig config, SessionHandler& handler);
    virtual ~Server() = default;

    // Stops accepting and closes every connection; waits at most a second for threads that a hanging file
    // system holds.
    virtual void stop() = 0;

    // What this server can't do, one line each.
    virtual std::vector<std::string> notes() const = 0;
};

}  // namespace tierd
