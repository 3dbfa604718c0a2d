// misuse.h - what happens when a program does what the documentation forbids: one line on stderr, then abort().
//
// With SIMCUDA_MISUSE=error the call gives the documented error instead, without a line, so that a test can look at it.
// Callers: any thread. misuse() does not return when the process aborts.
#pragma once

#include <cuda.h>
#include <fmt/core.h>

#include <string_view>
#include <utility>

namespace simcuda {

void abort_on_misuse(bool yes);  // from the settings; abort until told otherwise

// Names the CUDA call, or the work on a stream, that this thread is in; misuse() prints it.
class CallName {
  public:
    explicit CallName(const char* name);
    ~CallName();
    CallName(const CallName&) = delete;
    static const char* current();

  private:
    const char* outer_;
};

CUresult report_misuse(CUresult documented, std::string_view what);

template <class... Args>
CUresult misuse(CUresult documented, fmt::format_string<Args...> text, Args&&... args) {
    return report_misuse(documented, fmt::format(text, std::forward<Args>(args)...));
}

}  // namespace simcuda
