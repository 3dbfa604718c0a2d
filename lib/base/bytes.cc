#include "lib/base/bytes.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdlib>

namespace tierd {

Result<uint64_t> parse_bytes(std::string_view text) {
    constexpr auto kHint = "write a size such as 2GiB, 512MiB or 65536";
    std::string trimmed;
    for (char c : text)
        if (!std::isspace(static_cast<unsigned char>(c))) trimmed += static_cast<char>(std::tolower(c));
    size_t digits = trimmed.find_first_not_of("0123456789.");
    if (digits == 0 || trimmed.empty()) return fail(Code::bad_input, "read size", std::string(text), kHint);
    std::string number = trimmed.substr(0, digits);
    if (std::count(number.begin(), number.end(), '.') > 1 || number == ".")
        return fail(Code::bad_input, "read size", std::string(text), kHint);
    std::string unit = digits == std::string::npos ? "" : trimmed.substr(digits);
    double scale = 0;
    if (unit.empty() || unit == "b") scale = 1;
    const std::string_view letters = "kmgtp";
    for (size_t i = 0; i < letters.size(); i++) {
        std::string letter(1, letters[i]);
        if (unit == letter || unit == letter + "b" || unit == letter + "ib")
            scale = std::pow(1024.0, static_cast<double>(i + 1));
    }
    if (scale == 0) return fail(Code::bad_input, "read size", std::string(text), kHint);
    double value = std::strtod(number.c_str(), nullptr) * scale;
    if (value > 9.2e18)
        return fail(Code::bad_input, "read size", std::string(text), "it is larger than any machine");
    return static_cast<uint64_t>(value);
}

std::string format_bytes(uint64_t bytes) {
    static constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    if (bytes < kKiB) return fmt::format("{} B", bytes);
    double value = static_cast<double>(bytes);
    size_t unit = 0;
    while (value >= 1024 && unit + 1 < std::size(kUnits)) {
        value /= 1024;
        unit++;
    }
    int decimals = value < 10 ? 2 : value < 100 ? 1 : 0;
    return fmt::format("{:.{}f} {}", value, decimals, kUnits[unit]);
}

}  // namespace tierd
