// header_bytes.h - the beginning of a weight file, read into memory as far as a parser needs it.
//
// Owns:      a window of the bytes that it read (none if it was given bytes in memory). Not the descriptor.
// Invariant: nothing at or beyond limit() is ever read or returned; limit() is at most kMaxHeaderBytes.
// Callers:   one thread at a time; view() may block on the file's storage.
// Fails:     view() gives bad_input if the header would exceed its end or its limit, io if a read failed.
#pragma once

#include <cstdint>
#include <memory>

#include "lib/base/result.h"

namespace tierd {

class HeaderBytes {
  public:
    // Bytes already in memory; `data` is borrowed and must outlive the object.
    static HeaderBytes of_memory(const char* data, size_t bytes) noexcept;
    // The beginning of an open file of `file_bytes`; `fd` is borrowed. Nothing is read yet.
    static HeaderBytes of_file(int fd, uint64_t file_bytes) noexcept;

    // How far view() could ever reach: the file's size or kMaxHeaderBytes.
    uint64_t limit() const noexcept { return limit_bytes_; }

    // Bytes [at_bytes, at_bytes + bytes), valid until the next call. A parser that goes forward has each byte
    // read at most about once, and what it steps over need not be read at all.
    Result<const char*> view(uint64_t at_bytes, uint64_t bytes) {
        if (at_bytes >= window_begin_bytes_ && at_bytes <= window_end_bytes_ &&
            bytes <= window_end_bytes_ - at_bytes) {
            return window_ + (at_bytes - window_begin_bytes_);
        }
        return read(at_bytes, bytes);
    }

  private:
    Result<const char*> read(uint64_t at_bytes, uint64_t bytes);

    std::unique_ptr<char[]> buffer_;
    uint64_t buffer_bytes_ = 0;
    const char* window_ = nullptr;  // bytes [window_begin_bytes_, window_end_bytes_) of the file
    uint64_t window_begin_bytes_ = 0;
    uint64_t window_end_bytes_ = 0;
    uint64_t limit_bytes_ = 0;
    int fd_ = -1;  // -1: bytes in memory, there is nothing to read from
};

// Whether `text` is safe in a log line or on a terminal: well-formed UTF-8 (no overlong forms, no
// surrogates, nothing above U+10FFFF) without control characters. O(length).
bool is_plain_text(const char* text, size_t bytes) noexcept;

}  // namespace tierd
