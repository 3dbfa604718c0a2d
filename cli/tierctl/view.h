// view.h - prints tierd's replies. docs/openapi.json describes them.
//
// Callers:   any thread; pure functions.
// Fails:     a member that is missing or of another type throws nlohmann::json::exception: the server is
//            not tierd, or of another version.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace tierd {

std::string view_status(const nlohmann::json& answer);
std::string view_models(const nlohmann::json& answer);
std::string view_sessions(const nlohmann::json& answer);
std::string view_tiers(const nlohmann::json& answer);
// Where the time of faults went; with `histogram` also how it was spread.
std::string view_faults(const nlohmann::json& answer, bool histogram);
std::string view_slowest_fault(const nlohmann::json& answer);
// By layer; with `each` also every tensor.
std::string view_tensors(const nlohmann::json& answer, bool each);
// One line for one model, after pin and unpin.
std::string view_model_line(const nlohmann::json& model);

}  // namespace tierd
