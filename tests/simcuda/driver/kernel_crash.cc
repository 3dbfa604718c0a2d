#include "tests/simcuda/driver/kernel_crash.h"

#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include <fmt/core.h>
#include <unistd.h>

#include "tests/simcuda/driver/managed.h"
#include "tests/simcuda/driver/memory.h"

namespace simcuda {
namespace {

// A signal handler can be given nothing, so what it needs stands here.
thread_local const char* running_kernel = nullptr;
const Memory* watched = nullptr;
Managed* watched_managed = nullptr;
struct sigaction before_segv, before_bus;

// Managed memory comes, on a thread that holds none of our locks: it was about to touch memory that is not ours to touch.
// Otherwise the process dies, and nothing is allocated.
void handle(int signal, siginfo_t* info, void* machine) {
    auto address = reinterpret_cast<uint64_t>(info->si_addr);
    if (signal == SIGSEGV && watched_managed->touched(address, running_kernel != nullptr)) return;
    const struct sigaction& before = signal == SIGSEGV ? before_segv : before_bus;
    if (running_kernel) {
        char what[Memory::kDescriptionBytes], line[512];
        std::string_view is(what, watched->describe_to(address, what));
        auto end = fmt::format_to_n(line, sizeof line, "simcuda: kernel {} touched {:#x}: {}\n",
                                    running_kernel, address, is);
        [[maybe_unused]] ssize_t written = ::write(STDERR_FILENO, line, static_cast<size_t>(end.out - line));
    } else if (before.sa_flags & SA_SIGINFO) {
        return before.sa_sigaction(signal, info, machine);
    } else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) {
        return before.sa_handler(signal);
    }
    ::signal(signal, SIG_DFL);  // back to the instruction, which does it again
}

}  // namespace

void watch_for_kernel_crashes(const Memory& memory, Managed& managed) {
    watched = &memory;
    watched_managed = &managed;
    struct sigaction action = {};
    action.sa_sigaction = handle;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigemptyset(&action.sa_mask);
    ::sigaction(SIGSEGV, &action, &before_segv);
    ::sigaction(SIGBUS, &action, &before_bus);
}

RunningKernel::RunningKernel(const char* name) {
    running_kernel = name;
}
RunningKernel::~RunningKernel() {
    running_kernel = nullptr;
}

}  // namespace simcuda
