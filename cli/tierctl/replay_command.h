// replay_command.h - heat from a recording, in the form of the control API's reply.
//
// Callers:   any thread. Blocks on the recording, and on the weight files and binaries in it.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "lib/base/result.h"

namespace tierd {

// Of a file of `perf record -d` or of a trace (docs/trace-format.md). `weights`: names of further weight files.
// `models`: tierd's answer of GET /v1/models while the engines ran, or null: it tells which weights its memory stood
// for. Heat is the number of accesses recorded. Errors: those of the readers; bad_input for an unknown `by`, and
// where the engines had weights from a tierd that `models` does not know.
Result<nlohmann::json> hot_from_file(const std::string& path, const std::string& by,
                                     const std::vector<std::string>& weights, const nlohmann::json& models);

// Puts the function's name where an answer has only binary and offset: the binaries are read here, with the rights of
// whoever asks. Rows of one function become one.
void name_functions(nlohmann::json& answer);

}  // namespace tierd
