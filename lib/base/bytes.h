// bytes.h - sizes as people write and read them. The only place where "2GiB" becomes a number.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "lib/base/result.h"

namespace tierd {

inline constexpr uint64_t kKiB = 1024;
inline constexpr uint64_t kMiB = 1024 * kKiB;
inline constexpr uint64_t kGiB = 1024 * kMiB;

// Reads "2GiB", "512 MiB", "1.5G", "64k" or a plain count of bytes; suffixes are powers of 1024 in either
// spelling, case ignored. Errors: bad_input for anything else, a negative number, or more than 2^63-1 bytes.
Result<uint64_t> parse_bytes(std::string_view text);

// "1.50 GiB", "64 KiB", "17 B": three significant digits, binary units.
std::string format_bytes(uint64_t bytes);

constexpr uint64_t round_up(uint64_t value, uint64_t step) {
    return (value + step - 1) / step * step;
}
constexpr uint64_t round_down(uint64_t value, uint64_t step) {
    return value / step * step;
}

}  // namespace tierd
