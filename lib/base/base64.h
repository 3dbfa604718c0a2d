// base64.h - encodes bytes for JSON (RFC 4648, with padding).
//
// Callers:   any thread; pure.
// Fails:     from_base64() returns nothing for text that to_base64() does not produce.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace tierd {

std::string to_base64(std::string_view bytes);
std::optional<std::string> from_base64(std::string_view text);

}  // namespace tierd
