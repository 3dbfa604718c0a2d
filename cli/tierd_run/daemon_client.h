// daemon_client.h - the two questions tierd-run asks a tierd: are you there, and how are you?
//
// Callers:   the only thread. Each call ends within its limit, whatever the other side does or does not do.
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
