#include "tests/simcuda/driver/misuse.h"

#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <string>

namespace simcuda {
namespace {
// A CUDA driver is reached through plain functions, so this choice has nowhere else to stand.
std::atomic<bool> aborts = true;
thread_local const char* call_name = "simcuda";
}  // namespace

void abort_on_misuse(bool yes) {
    aborts = yes;
}

CallName::CallName(const char* name) : outer_(call_name) {
    call_name = name;
}
CallName::~CallName() {
    call_name = outer_;
}
const char* CallName::current() {
    return call_name;
}

CUresult report_misuse(CUresult documented, std::string_view what) {
    if (!aborts) return documented;
    std::string line = fmt::format("simcuda: {}: {}\n", call_name, what);
    // If stderr is closed there is nobody to tell; the abort says enough.
    [[maybe_unused]] ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
    std::abort();
}

}  // namespace simcuda
