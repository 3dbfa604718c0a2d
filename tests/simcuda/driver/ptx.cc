#include "tests/simcuda/driver/ptx.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstdint>

namespace simcuda {
namespace {

constexpr uint32_t kMaxParamBytes = 32764;  // of one kernel, as PTX has it

// The text as words, comments left out; each of ( ) [ ] , ; { } is a word of its own.
class Words {
  public:
    explicit Words(std::string_view text) : text_(text) {}

    // Empty: the end.
    std::string_view next() {
        skip();
        if (at_ >= text_.size()) return {};
        size_t start = at_++;
        if (is_mark(text_[start])) return text_.substr(start, 1);
        while (at_ < text_.size() && !is_space(text_[at_]) && !is_mark(text_[at_]) && !starts_comment())
            ++at_;
        return text_.substr(start, at_ - start);
    }

  private:
    static bool is_space(char c) { return std::isspace(static_cast<unsigned char>(c)) != 0; }
    static bool is_mark(char c) { return std::string_view("()[],;{}").find(c) != std::string_view::npos; }
    bool starts_comment() const {
        std::string_view two = text_.substr(at_, 2);
        return two == "//" || two == "/*";
    }
    void skip() {
        while (at_ < text_.size()) {
            if (is_space(text_[at_])) {
                ++at_;
            } else if (text_.substr(at_, 2) == "//") {
                at_ = std::min(text_.find('\n', at_), text_.size());
            } else if (text_.substr(at_, 2) == "/*") {
                size_t end = text_.find("*/", at_ + 2);
                at_ = end == std::string_view::npos ? text_.size() : end + 2;
            } else {
                return;
            }
        }
    }

    std::string_view text_;
    size_t at_ = 0;
};

std::optional<uint32_t> number(std::string_view word) {
    uint32_t value = 0;
    auto [end, bad] = std::from_chars(word.data(), word.data() + word.size(), value);
    if (bad != std::errc{} || end != word.data() + word.size() || value == 0 || value > 4096)
        return std::nullopt;
    return value;
}

// ".u64" -> 8; nullopt: not a type of a parameter.
std::optional<uint32_t> type_bytes(std::string_view word) {
    if (word.size() < 3 || word[0] != '.' || std::string_view("bsuf").find(word[1]) == std::string_view::npos)
        return std::nullopt;
    std::optional<uint32_t> bits = number(word.substr(2));
    bool known = bits && (*bits == 8 || *bits == 16 || *bits == 32 || *bits == 64);
    return known ? std::optional(*bits / 8) : std::nullopt;
}

// After ".param": [.align N] TYPE [.ptr ...] NAME [ "[" N "]" ], up to "," or ")"; `last`: it was ")".
std::optional<simcuda_param> param(Words& words, uint32_t at, bool* last) {
    uint32_t align = 0, bytes = 0, count = 1;
    while (true) {
        std::string_view word = words.next();
        if (word.empty()) return std::nullopt;
        *last = word == ")";
        if (word == "," || word == ")") break;
        std::optional<uint32_t> type = type_bytes(word);
        if (word == ".align" || word == "[") {
            std::optional<uint32_t> value = number(words.next());
            if (!value) return std::nullopt;
            // The .align that follows .ptr speaks of what is pointed to.
            if (word == "[")
                count = *value;
            else if (bytes == 0)
                align = *value;
        } else if (type) {
            bytes = *type;
        }
    }
    if (bytes == 0) return std::nullopt;
    if (align == 0) align = bytes;
    return simcuda_param{(at + align - 1) / align * align, bytes * count};
}

// After ".entry".
std::optional<PtxEntry> entry(Words& words) {
    PtxEntry found;
    found.name = words.next();
    std::string_view word = words.next();
    if (word != "(") return found.name.empty() ? std::nullopt : std::optional(found);  // no parameters
    uint32_t at = 0;
    for (bool last = false; !last;) {
        word = words.next();
        if (word == ")") break;
        if (word != ".param") return std::nullopt;
        std::optional<simcuda_param> read = param(words, at, &last);
        if (!read) return std::nullopt;
        at = read->offset_bytes + read->size_bytes;
        if (at > kMaxParamBytes) return std::nullopt;
        found.params.push_back(*read);
    }
    return found;
}

}  // namespace

bool looks_like_ptx(std::string_view text) {
    return Words(text).next() == ".version";
}

std::optional<std::vector<PtxEntry>> ptx_entries(std::string_view text) {
    if (!looks_like_ptx(text)) return std::nullopt;
    std::vector<PtxEntry> found;
    Words words(text);
    for (std::string_view word = words.next(); !word.empty(); word = words.next()) {
        if (word != ".entry") continue;
        std::optional<PtxEntry> read = entry(words);
        if (!read) return std::nullopt;
        found.push_back(std::move(*read));
    }
    return found;
}

}  // namespace simcuda
