#include "cuda_shim/host/shim_state.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "cuda_shim/host/fork.h"

namespace tierd::shim {

static constinit State the_state;

State& state() {
    return the_state;
}

// Copies the variable's value, which the engine may change or free later. Longer values than fit are left
// out.
static void copy_variable(const char* name, const char* otherwise, char* into, size_t room) {
    const char* value = ::getenv(name);
    if (value == nullptr || *value == '\0') value = otherwise;
    size_t length = ::strlen(value);
    if (length < room) ::memcpy(into, value, length + 1);
}

static LogLevel wanted_log_level() {
    const char* value = ::getenv("TIERD_LOG");
    if (value == nullptr) return LogLevel::off;
    if (::strcmp(value, "debug") == 0) return LogLevel::debug;
    return ::strcmp(value, "info") == 0 ? LogLevel::info : LogLevel::off;
}

static uint64_t wanted_min_bytes() {
    constexpr uint64_t kDefault = 1u << 20;
    const char* value = ::getenv("TIERD_MIN_BYTES");
    if (value == nullptr || *value < '0' || *value > '9') return kDefault;
    return ::strtoull(value, nullptr, 10);
}

static void find_next_functions() {
    the_state.next.close = reinterpret_cast<int (*)(int)>(::dlsym(RTLD_NEXT, "close"));
    the_state.next.close_range =
        reinterpret_cast<int (*)(unsigned, unsigned, int)>(::dlsym(RTLD_NEXT, "close_range"));
}

// A library's constructor: runs once, before the program's main, with no second thread.
__attribute__((constructor)) static void read_environment() {
    const char* disabled = ::getenv("TIERD_DISABLE");
    if (disabled != nullptr && ::strcmp(disabled, "1") == 0) return;
    if (::sysconf(_SC_PAGESIZE) != static_cast<long>(kPageBytes)) return;
    Config& config = the_state.config;
    copy_variable("TIERD_SOCKET", wire::kDefaultSocket, config.socket, sizeof config.socket);
    copy_variable("TIERD_MATCH", "", config.match, sizeof config.match);
    config.min_bytes = wanted_min_bytes();
    config.log_level = wanted_log_level();
    find_next_functions();
    if (::pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child) != 0) return;
    __atomic_store_n(&the_state.enabled, true, __ATOMIC_RELEASE);
}

static bool make_mark() {
    if (the_state.address_space_mark != nullptr) return the_state.owns_address_space();
    long got = sys::mmap(0, kPageBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (sys::failed(got)) return false;
    uint64_t page = static_cast<uint64_t>(got);
    if (sys::madvise(page, kPageBytes, MADV_WIPEONFORK) != 0) {
        sys::munmap(page, kPageBytes);
        return false;
    }
    auto* mark = reinterpret_cast<uint32_t*>(page);
    *mark = 1;
    __atomic_store_n(&the_state.address_space_mark, mark, __ATOMIC_RELEASE);
    return true;
}

bool prepare_state() {
    Guard table(the_state.table_lock);
    if (!the_state.regions.prepare() || !the_state.attachments.prepare() || !make_mark()) return false;
    if (!the_state.pagemap.still_ours())
        the_state.pagemap =
            OwnedFd::own(static_cast<int>(sys::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC)));
    return true;
}

}  // namespace tierd::shim
