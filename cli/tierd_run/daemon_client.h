// daemon_client.h - the two requests of tierd-run to a tierd: whether it answers, and its status.
//
// Callers:   the only thread. Each call ends within its limit, whatever the other side does.
#pragma once

#include <string>

#include "lib/base/result.h"

namespace tierd::run {

inline constexpr int kAnswerLimit_ms = 500;

// True when a tierd at the session socket answers Hello within kAnswerLimit_ms and would serve this user.
bool answers(const std::string& session_socket);

// The body of GET /v1/status: JSON. Errors: errno of connect(2), or io with what came instead.
Result<std::string> fetch_status(const std::string& control_socket);

}  // namespace tierd::run
