#include "lib/base/result.h"

#include <fmt/format.h>

#include <cstring>

namespace tierd {

const char* code_name(Code code) noexcept {
    switch (code) {
        case Code::busy:
            return "busy";
        case Code::no_space:
            return "no_space";
        case Code::io:
            return "io";
        case Code::bad_input:
            return "bad_input";
        case Code::bad_config:
            return "bad_config";
        case Code::not_found:
            return "not_found";
        case Code::denied:
            return "denied";
        case Code::unsupported:
            return "unsupported";
        case Code::kernel_refused:
            return "kernel_refused";
        case Code::gone:
            return "gone";
    }
    return "unknown";
}

// An operation that begins with a place in a file, "tierd.toml:3:7: …", already reads as a sentence.
static bool begins_with_place(const std::string& operation) {
    return operation.substr(0, operation.find(' ')).ends_with(':');
}

std::string Error::text() const {
    std::string line = begins_with_place(operation) ? operation : "cannot " + operation;
    if (!object.empty()) line += " " + object;
    if (err != 0) {
        char buffer[128];
        line += fmt::format(": {} ({})", ::strerror_r(err, buffer, sizeof buffer), err);
    }
    if (!hint.empty()) line += "; " + hint;
    return line;
}

}  // namespace tierd
