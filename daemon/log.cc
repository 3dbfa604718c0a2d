#include "daemon/log.h"

#include <fmt/format.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstdlib>
#include <memory>

namespace tierd {
namespace {

// Length of the UTF-8 character that begins there; 0: none does, or it is one of the second set of control characters.
size_t character_bytes(std::string_view text) {
    auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
    size_t length = byte(0) < 0x80 ? 1 : byte(0) >= 0xf0 ? 4 : byte(0) >= 0xe0 ? 3 : byte(0) >= 0xc2 ? 2 : 0;
    if (length == 0 || length > text.size() || byte(0) > 0xf4) return 0;
    for (size_t i = 1; i < length; i++)
        if ((byte(i) & 0xc0) != 0x80) return 0;
    if (length == 2 && byte(0) == 0xc2 && byte(1) < 0xa0) return 0;
    // Line ends of Unicode's own, and what turns the direction of writing.
    if (length == 3 && byte(0) == 0xe2 && byte(1) == 0x80 && byte(2) >= 0xa8 && byte(2) <= 0xae) return 0;
    return length;
}

class Printable final : public spdlog::custom_flag_formatter {
  public:
    void format(const spdlog::details::log_msg& message, const std::tm&, spdlog::memory_buf_t& to) override {
        const std::string text = printable({message.payload.data(), message.payload.size()});
        to.append(text.data(), text.data() + text.size());
    }
    std::unique_ptr<custom_flag_formatter> clone() const override { return std::make_unique<Printable>(); }
};

}  // namespace

std::string printable(std::string_view text) {
    std::string out;
    while (!text.empty()) {
        auto byte = static_cast<unsigned char>(text.front());
        size_t length = character_bytes(text);
        if (byte == '\n')
            out += "\\n";
        else if (length == 0 || byte < 0x20 || byte == 0x7f)
            out += fmt::format("\\x{:02x}", byte);
        else
            out += text.substr(0, length);
        text.remove_prefix(std::max<size_t>(length, 1));
    }
    return out;
}

void set_up_log(const std::string& level) {
    auto logger = spdlog::stderr_color_mt("tierd");
    auto formatter = std::make_unique<spdlog::pattern_formatter>();
    formatter->add_flag<Printable>('*').set_pattern(
        std::getenv("JOURNAL_STREAM") != nullptr ? "%l: %*" : "%H:%M:%S.%e %^%l%$ %*");
    logger->set_formatter(std::move(formatter));
    logger->set_level(spdlog::level::from_str(level));
    spdlog::set_default_logger(logger);
}

}  // namespace tierd
