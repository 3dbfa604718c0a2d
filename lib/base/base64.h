// base64.h - bytes in JSON (RFC 4648, with padding).
//
// Callers:   any thread; pure.
// Fails:     from_base64(): nothing for text that is not what to_base64() writes.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace tierd {

std::string to_base64(std::string_view bytes);
std::optional<std::string> from_base64(std::string_view text);

}  // namespace tierd
