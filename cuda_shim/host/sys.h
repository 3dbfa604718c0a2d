// sys.h - system calls without libc's wrappers, and the one kind of lock that the shim uses.
//
// Owns:      nothing.
// Invariant: no call here changes errno, none is a cancellation point, and none uses a symbol that this library or
//            another preloaded one interposes.
// Callers:   any thread, also before the library's constructor has run.
// Fails:     every call returns what the kernel returns: a negative errno, or the result.
#pragma once

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

namespace tierd::shim {

inline constexpr uint64_t kPageBytes = 4096;
inline constexpr uint64_t kHugePageBytes = 2u << 20;

inline uint64_t round_down(uint64_t value, uint64_t step) {
    return value & ~(step - 1);
}
inline uint64_t round_up(uint64_t value, uint64_t step) {
    return round_down(value + step - 1, step);
}

namespace sys {

inline long as_word(const void* pointer) {
    return reinterpret_cast<long>(pointer);
}
inline long as_word(long number) {
    return number;
}
inline long as_word(unsigned long number) {
    return static_cast<long>(number);
}
inline long as_word(int number) {
    return number;
}
inline long as_word(unsigned number) {
    return static_cast<long>(number);
}

template <class... Args>
long call(long number, Args... args) {
    int kept = errno;
    long result = ::syscall(number, as_word(args)...);
    if (result == -1) result = -errno;
    errno = kept;
    return result;
}

inline bool failed(long result) {
    return result < 0 && result >= -4095;
}

inline long mmap(uint64_t address, uint64_t length_bytes, int prot, int flags, int fd,
                 uint64_t offset_bytes) {
    return call(SYS_mmap, address, length_bytes, prot, flags, fd, offset_bytes);
}
inline long munmap(uint64_t address, uint64_t length_bytes) {
    return call(SYS_munmap, address, length_bytes);
}
inline long mprotect(uint64_t address, uint64_t length_bytes, int prot) {
    return call(SYS_mprotect, address, length_bytes, prot);
}
inline long madvise(uint64_t address, uint64_t length_bytes, int advice) {
    return call(SYS_madvise, address, length_bytes, advice);
}
inline long close(int fd) {
    return call(SYS_close, fd);
}
inline long ioctl(int fd, unsigned long request, void* argument) {
    return call(SYS_ioctl, fd, request, argument);
}
inline long fstat(int fd, struct stat* into) {
    return call(SYS_fstat, fd, into);
}
inline long fcntl(int fd, int command, long argument) {
    return call(SYS_fcntl, fd, command, argument);
}
inline long pread(int fd, void* into, uint64_t length_bytes, uint64_t offset_bytes) {
    return call(SYS_pread64, fd, into, length_bytes, offset_bytes);
}
inline long open(const char* path, int flags) {
    return call(SYS_openat, -100 /* AT_FDCWD */, path, flags, 0);
}
inline long shutdown(int fd, int how) {
    return call(SYS_shutdown, fd, how);
}

// Waits for events on one descriptor, at most `timeout_ms`. Returns 0 after that time, 1 with `revents` set,
// or -EINTR.
inline long poll_one(pollfd* wait, int64_t timeout_ms) {
    timespec timeout{timeout_ms / 1000, timeout_ms % 1000 * 1'000'000};
    return call(SYS_ppoll, wait, 1, &timeout, nullptr, 0);
}

// CLOCK_MONOTONIC.
inline uint64_t now_ns() {
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000u + static_cast<uint64_t>(now.tv_nsec);
}

}  // namespace sys

// A mutex of one word: 0 free, 1 held, 2 held and waited for.
class Lock {
  public:
    void lock() {
        uint32_t seen = 0;
        if (__atomic_compare_exchange_n(&word_, &seen, 1u, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) return;
        while (__atomic_exchange_n(&word_, 2u, __ATOMIC_ACQUIRE) != 0)
            sys::call(SYS_futex, &word_, 128 /* FUTEX_WAIT_PRIVATE */, 2, nullptr, nullptr, 0);
    }
    // For callers that can do without: false if it could not be taken within so many milliseconds.
    bool lock_within(uint32_t patience_ms) {
        for (uint32_t waited_ms = 0;; waited_ms++) {
            uint32_t seen = 0;
            if (__atomic_compare_exchange_n(&word_, &seen, 1u, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
                return true;
            if (waited_ms == patience_ms) return false;
            timespec pause{0, 1'000'000};
            sys::call(SYS_nanosleep, &pause, nullptr);
        }
    }
    void unlock() {
        if (__atomic_exchange_n(&word_, 0u, __ATOMIC_RELEASE) == 2)
            sys::call(SYS_futex, &word_, 129 /* FUTEX_WAKE_PRIVATE */, 1, nullptr, nullptr, 0);
    }
    // In a forked child, whose only thread can't hold it: the thread that held it is not in the child.
    void reset() { word_ = 0; }

  private:
    uint32_t word_ = 0;
};

using SignalMask = uint64_t;  // the kernel's, not libc's
inline SignalMask block_signals() {
    SignalMask all = ~SignalMask{0};
    SignalMask before = 0;
    sys::call(SYS_rt_sigprocmask, static_cast<int>(SIG_SETMASK), &all, &before, sizeof all);
    return before;
}
inline void restore_signals(SignalMask before) {
    sys::call(SYS_rt_sigprocmask, static_cast<int>(SIG_SETMASK), &before, nullptr, sizeof before);
}

// Holds a lock with all signals blocked: a handler of the engine's that maps or unmaps must not wait for its
// own thread.
class Guard {
  public:
    explicit Guard(Lock& lock) : lock_(lock), before_(block_signals()) { lock_.lock(); }
    ~Guard() {
        lock_.unlock();
        restore_signals(before_);
    }
    Guard(const Guard&) = delete;
    Guard& operator=(const Guard&) = delete;

  private:
    Lock& lock_;
    SignalMask before_;
};

}  // namespace tierd::shim
