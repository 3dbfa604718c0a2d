#include "lib/model/header_bytes.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "lib/model/tensor_map.h"

namespace tierd {
namespace {

// Two reads hold the whole header of most files without a tokenizer; the window then slides, because bringing
// 6 MiB of fresh memory in costs several times more than reading them (Gemma 3's header: 5 ms against 1).
constexpr uint64_t kWindowBytes = 256 << 10;
// The first read is small: many headers end there, and the beginning is what the engine has just read itself.
constexpr uint64_t kFirstWindowBytes = 16 << 10;

}  // namespace

HeaderBytes HeaderBytes::of_memory(const char* data, size_t bytes) noexcept {
    HeaderBytes header;
    header.window_ = data;
    header.limit_bytes_ = header.window_end_bytes_ = std::min<uint64_t>(bytes, kMaxHeaderBytes);
    return header;
}

HeaderBytes HeaderBytes::of_file(int fd, uint64_t file_bytes) noexcept {
    HeaderBytes header;
    header.fd_ = fd;
    header.limit_bytes_ = std::min(file_bytes, kMaxHeaderBytes);
    return header;
}

Result<const char*> HeaderBytes::read(uint64_t at_bytes, uint64_t bytes) {
    if (at_bytes > limit_bytes_ || bytes > limit_bytes_ - at_bytes) {
        return fail(
            Code::bad_input, "read weight file header",
            fmt::format("{} bytes at {} are past its end or limit at {}", bytes, at_bytes, limit_bytes_),
            "the file is cut or damaged: fetch it again");
    }
    uint64_t window_bytes = at_bytes == 0 ? kFirstWindowBytes : kWindowBytes;
    uint64_t wanted = std::min(std::max(bytes, window_bytes), limit_bytes_ - at_bytes);
    if (wanted > buffer_bytes_) {
        buffer_ = std::make_unique_for_overwrite<char[]>(wanted);
        buffer_bytes_ = wanted;
    }
    window_ = buffer_.get();
    window_begin_bytes_ = window_end_bytes_ = at_bytes;
    while (window_end_bytes_ < at_bytes + wanted) {
        uint64_t done = window_end_bytes_ - at_bytes;
        ssize_t got =
            ::pread(fd_, buffer_.get() + done, wanted - done, static_cast<off_t>(window_end_bytes_));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return os_error("read weight file header", {}, Code::io);
        if (got == 0) {
            return fail(Code::io, "read weight file header",
                        fmt::format("the file ended at byte {} while it was read", window_end_bytes_),
                        "the file is being written or truncated: try again when it is complete");
        }
        window_end_bytes_ += static_cast<uint64_t>(got);
    }
    return window_;
}

bool is_plain_text(const char* text, size_t bytes) noexcept {
    const auto* at = reinterpret_cast<const unsigned char*>(text);
    const auto* end = at + bytes;
    while (at < end) {
        unsigned char lead = *at++;
        if (lead < 0x20 || lead == 0x7f) return false;
        if (lead < 0x80) continue;
        int more = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : 1;
        if (lead < 0xc2 || lead > 0xf4 || end - at < more) return false;
        // The second byte's range is what excludes the upper control characters, overlong forms, surrogates
        // and values above U+10FFFF.
        unsigned char low = lead == 0xc2 ? 0xa0 : lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
        unsigned char high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
        if (*at < low || *at > high) return false;
        for (int i = 1; i < more; ++i) {
            if ((at[i] & 0xc0) != 0x80) return false;
        }
        at += more;
    }
    return true;
}

}  // namespace tierd
