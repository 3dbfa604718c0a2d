#include "cuda_shim/host/owned_fd.h"

#include <fcntl.h>

#include "cuda_shim/host/shim_state.h"
#include "cuda_shim/host/sys.h"

namespace tierd::shim {

static int duplicate_high(int raw) {
    // Above what engines use at once, but within the table that a process begins with, which holds 64: a larger
    // one costs a process that has threads several milliseconds (expand_fdtable() waits for RCU).
    constexpr long kFirst = 40;
    long got = sys::fcntl(raw, F_DUPFD_CLOEXEC, kFirst);
    if (sys::failed(got)) got = sys::fcntl(raw, F_DUPFD_CLOEXEC, 3);
    return static_cast<int>(got);
}

static uint64_t bit_of(int fd) {
    return uint64_t{1} << (fd % 64);
}

static uint64_t* word_of(int fd) {
    return fd < 0 || fd >= kGuardableFds ? nullptr : &state().guarded_fds[fd / 64];
}

bool is_guarded(int fd) {
    const uint64_t* word = word_of(fd);
    return word != nullptr && (__atomic_load_n(word, __ATOMIC_ACQUIRE) & bit_of(fd)) != 0;
}

static OwnedFd identified(int fd) {
    struct stat st{};
    if (fd < 0 || sys::fstat(fd, &st) != 0) return {};
    if (uint64_t* word = word_of(fd)) __atomic_fetch_or(word, bit_of(fd), __ATOMIC_RELEASE);
    return {fd, st.st_dev, st.st_ino};
}

OwnedFd OwnedFd::own(int raw) {
    if (raw < 0) return {};
    int high = duplicate_high(raw);
    if (high < 0) return identified(raw);
    sys::close(raw);
    return identified(high);
}

OwnedFd OwnedFd::copy_of(int raw) {
    return identified(duplicate_high(raw));
}

bool OwnedFd::still_ours() const {
    struct stat st{};
    return fd >= 0 && sys::fstat(fd, &st) == 0 && st.st_dev == device && st.st_ino == inode;
}

bool name_of(int fd, char* into, size_t room) {
    char link[32] = "/proc/self/fd/";
    size_t length = sizeof("/proc/self/fd/") - 1;
    char digits[12];
    size_t count = 0;
    for (int rest = fd; count == 0 || rest > 0; rest /= 10)
        digits[count++] = static_cast<char>('0' + rest % 10);
    while (count > 0) link[length++] = digits[--count];
    link[length] = '\0';
    long got =
        fd < 0 ? -EBADF : sys::call(SYS_readlinkat, AT_FDCWD, static_cast<const char*>(link), into, room - 1);
    into[sys::failed(got) ? 0 : got] = '\0';
    return !sys::failed(got);
}

void OwnedFd::close() {
    bool ours = still_ours();
    // The guard goes first: once closed, the number may be the engine's.
    if (uint64_t* word = word_of(fd)) __atomic_fetch_and(word, ~bit_of(fd), __ATOMIC_RELEASE);
    if (ours) sys::close(fd);
    fd = -1;
}

}  // namespace tierd::shim
