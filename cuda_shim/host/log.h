// log.h - writes one line to standard error, if TIERD_LOG enables it.
//
// Invariant: silent unless enabled; no memory is allocated and no stream of libc's is used.
// Callers:   any thread, with or without the shim's locks. Never fails: a line that can't be written is lost.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace tierd::shim {

enum class LogLevel : uint8_t { off, info, debug };

// Builds one line of at most 511 bytes and writes it when it goes. Longer text is cut.
class LogLine {
  public:
    explicit LogLine(LogLevel level);
    ~LogLine();
    LogLine(const LogLine&) = delete;
    LogLine& operator=(const LogLine&) = delete;

    LogLine& operator<<(const char* text);
    LogLine& operator<<(int64_t number);
    LogLine& operator<<(uint64_t number);
    LogLine& operator<<(int number) { return *this << static_cast<int64_t>(number); }
    LogLine& operator<<(uint32_t number) { return *this << static_cast<uint64_t>(number); }

  private:
    bool wanted_;
    size_t length_ = 0;
    char text_[512];
};

inline LogLine log_info() {
    return LogLine(LogLevel::info);
}
inline LogLine log_debug() {
    return LogLine(LogLevel::debug);
}

}  // namespace tierd::shim
