// varint.h - variable-length integers of a trace: seven bits per byte, the lowest first; small numbers are short.
//
// Callers:   any thread; pure. Fails: VarintReader goes bad and stays so; its numbers are then 0.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace tierd {

inline void put_varint(std::string& out, uint64_t value) {
    for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
    out += static_cast<char>(value);
}

// -1, 1, -2 become 1, 2, 3.
inline void put_signed(std::string& out, int64_t value) {
    put_varint(out, static_cast<uint64_t>(value) << 1 ^ static_cast<uint64_t>(value >> 63));
}

class VarintReader {
  public:
    explicit VarintReader(std::span<const char> bytes) : bytes_(bytes) {}

    bool bad() const { return bad_; }
    bool at_end() const { return at_ == bytes_.size(); }
    size_t at() const { return at_; }
    size_t left() const { return bytes_.size() - at_; }

    uint64_t number() {
        uint64_t value = 0;
        for (unsigned shift = 0; !bad_ && at_ < bytes_.size() && shift < 64; shift += 7) {
            auto byte = static_cast<uint8_t>(bytes_[at_++]);
            if (shift == 63 && byte > 1) break;
            value |= uint64_t{byte & 0x7fu} << shift;
            if (byte < 0x80) return value;
        }
        bad_ = true;
        return 0;
    }
    // A number of at most `most`; a greater one makes the reader bad.
    uint64_t number_to(uint64_t most) {
        uint64_t value = number();
        if (value > most) bad_ = true;
        return bad_ ? 0 : value;
    }
    int64_t signed_number() {
        uint64_t raw = number();
        return static_cast<int64_t>(raw >> 1 ^ (~(raw & 1) + 1));
    }
    std::string_view text(size_t length) {
        if (bad_ || length > left()) {
            bad_ = true;
            at_ = bytes_.size();
            return {};
        }
        std::string_view found(bytes_.data() + at_, length);
        at_ += length;
        return found;
    }

  private:
    std::span<const char> bytes_;
    size_t at_ = 0;
    bool bad_ = false;
};

}  // namespace tierd
