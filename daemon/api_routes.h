// api_routes.h - what each request of the control API does: from method, target and body to status and text.
//
// Owns:      the table of endpoints. Not the socket, not HTTP's framing (api.h).
// Invariant: every reply except /metrics is one JSON object; a request that can't be understood changes
//            nothing.
// Callers:   any thread; may wait for the engine as long as Control's calls do.
// Fails:     never: every failure is a reply {"error": {"code", "message", "hint"}} with its HTTP status.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "lib/engine/control.h"

namespace tierd {

struct ApiRequest {
    std::string method;  // "GET"
    std::string target;  // "/v1/models/a%20b.gguf/tensors", as it came; a query after '?' is ignored
    std::string body;
};

struct ApiResponse {
    unsigned status = 200;
    std::string body;
    std::string content_type = "application/json";
    std::string allow;     // with status 405: the methods that the path knows
    std::string location;  // with status 202: where the job's progress is
};

struct ApiRoute {
    std::string_view method;
    std::string_view
        path;  // "/v1/models/{name}/tensors": a segment in braces stands for one that the client chooses
    ApiResponse (*handle)(Control& control, const std::string& parameter, const std::string& body);
};

// All endpoints, in the order of the documentation.
std::span<const ApiRoute> api_routes();

ApiResponse answer(Control& control, const ApiRequest& request);

// An error as the API tells it.
ApiResponse error_response(unsigned status, const Error& error);

}  // namespace tierd
