#include "cuda_shim/host/log.h"

#include "cuda_shim/host/shim_state.h"
#include "cuda_shim/host/sys.h"

namespace tierd::shim {

LogLine::LogLine(LogLevel level) : wanted_(level <= state().config.log_level) {
    if (wanted_) *this << "tierd-shim: ";
}

LogLine::~LogLine() {
    if (!wanted_) return;
    text_[length_++] = '\n';
    sys::call(SYS_write, 2, static_cast<const void*>(text_), length_);
}

LogLine& LogLine::operator<<(const char* text) {
    if (!wanted_) return *this;
    while (*text != '\0' && length_ < sizeof text_ - 1) text_[length_++] = *text++;
    return *this;
}

LogLine& LogLine::operator<<(uint64_t number) {
    char digits[21];
    size_t at = sizeof digits - 1;
    digits[at] = '\0';
    do {
        digits[--at] = static_cast<char>('0' + number % 10);
        number /= 10;
    } while (number != 0);
    return *this << &digits[at];
}

LogLine& LogLine::operator<<(int64_t number) {
    if (number < 0) *this << "-";
    return *this << (number < 0 ? uint64_t{0} - static_cast<uint64_t>(number)
                                : static_cast<uint64_t>(number));
}

}  // namespace tierd::shim
