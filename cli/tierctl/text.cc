#include "cli/tierctl/text.h"

#include <fmt/format.h>

#include <algorithm>

#include "lib/base/clock.h"

namespace tierd {
namespace {

struct Decoded {
    uint32_t point = 0;
    size_t bytes = 0;  // 0: not UTF-8
};

// One code point at `at`. Overlong forms, surrogates and what lies beyond U+10FFFF are not UTF-8.
Decoded decode(const std::string& text, size_t at) {
    auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
    uint8_t first = byte(at);
    if (first < 0x80) return {first, 1};
    size_t bytes = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    if (first < 0xc2 || first > 0xf4 || at + bytes > text.size()) return {};
    uint32_t point = first & (0xffu >> (bytes + 1));
    for (size_t i = 1; i < bytes; i++) {
        if ((byte(at + i) & 0xc0) != 0x80) return {};
        point = point << 6 | (byte(at + i) & 0x3fu);
    }
    constexpr uint32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};
    if (point < kLeast[bytes] || (point >= 0xd800 && point < 0xe000) || point > 0x10ffff) return {};
    return {point, bytes};
}

bool is_harmful(uint32_t point) {
    if (point < 0x20 || (point >= 0x7f && point < 0xa0)) return true;  // C0, DEL and C1 control characters
    if (point >= 0x200b && point <= 0x200f) return true;               // without width, and direction marks
    if (point >= 0x2028 && point <= 0x202e) return true;               // line ends and direction overrides
    return (point >= 0x2060 && point <= 0x206f) || point == 0xfeff || point == 0x061c;
}

// Characters that a terminal shows, near enough: one for each code point.
size_t width(const std::string& text) {
    return static_cast<size_t>(
        std::ranges::count_if(text, [](char c) { return (static_cast<uint8_t>(c) & 0xc0) != 0x80; }));
}

}  // namespace

std::string escape(const std::string& text) {
    std::string out;
    for (size_t at = 0; at < text.size();) {
        Decoded next = decode(text, at);
        if (next.bytes == 0)
            out += fmt::format("\\x{:02x}", static_cast<uint8_t>(text[at]));
        else if (!is_harmful(next.point))
            out += text.substr(at, next.bytes);
        else if (next.point < 0x80)
            out += fmt::format("\\x{:02x}", next.point);
        else
            out += fmt::format("\\u{{{:x}}}", next.point);
        at += std::max<size_t>(next.bytes, 1);
    }
    return out;
}

std::string percent(uint64_t part, uint64_t whole) {
    if (whole == 0) return "-";
    return fmt::format("{} %",
                       static_cast<uint64_t>(static_cast<double>(part) * 100 / static_cast<double>(whole)));
}

std::string bar(uint64_t part, uint64_t whole, size_t width) {
    double share = whole == 0 ? 0 : std::min(1.0, static_cast<double>(part) / static_cast<double>(whole));
    size_t full = static_cast<size_t>(share * static_cast<double>(width));
    return std::string(full, '#') + std::string(width - full, '-');
}

std::string duration(uint64_t duration_ns) {
    uint64_t seconds = duration_ns / kNsPerSecond;
    if (seconds >= 86400) return fmt::format("{} d {} h", seconds / 86400, seconds / 3600 % 24);
    if (seconds >= 3600) return fmt::format("{} h {} min", seconds / 3600, seconds / 60 % 60);
    if (seconds >= 60) return fmt::format("{} min {} s", seconds / 60, seconds % 60);
    double value = static_cast<double>(duration_ns);
    if (duration_ns >= kNsPerSecond) return fmt::format("{:.1f} s", value / 1e9);
    if (duration_ns >= kNsPerMs) return fmt::format("{:.1f} ms", value / 1e6);
    return fmt::format("{} us", duration_ns / 1000);
}

void Table::add(std::vector<std::string> cells) {
    for (std::string& cell : cells) cell = escape(cell);
    cells.resize(columns_.size());
    rows_.push_back(std::move(cells));
}

std::string Table::text() const {
    std::vector<std::vector<std::string>> lines(1);
    for (const Column& column : columns_) lines[0].push_back(column.title);
    lines.insert(lines.end(), rows_.begin(), rows_.end());
    std::vector<size_t> widths(columns_.size(), 0);
    for (const auto& cells : lines)
        for (size_t i = 0; i < cells.size(); i++) widths[i] = std::max(widths[i], width(cells[i]));
    std::string out;
    for (const auto& cells : lines) {
        std::string line;
        for (size_t i = 0; i < cells.size(); i++) {
            std::string space(widths[i] - width(cells[i]), ' ');
            if (i != 0) line += "  ";
            line += columns_[i].align == Align::right ? space + cells[i] : cells[i] + space;
        }
        line.erase(line.find_last_not_of(' ') + 1);
        out += line + "\n";
    }
    return out;
}

}  // namespace tierd
