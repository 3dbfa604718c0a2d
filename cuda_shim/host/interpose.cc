// interpose.cc - the functions of libc that this library interposes, and everything that it exports.
//
// Each has the prototype and the meaning of libc's function. Calls that touch no region go straight to the kernel.
//
// Callers:   the engine, any thread, from the first library's constructor on.
// Fails:     like the system call, through errno.
#include <stdarg.h>

#include "cuda_shim/host/calls.h"
#include "cuda_shim/host/place.h"
#include "cuda_shim/host/shim_state.h"

#define TIERD_EXPORT extern "C" __attribute__((visibility("default")))

namespace tierd::shim {

static uint64_t as_address(const void* pointer) {
    return reinterpret_cast<uint64_t>(pointer);
}

static int answer(long result) {
    if (!sys::failed(result)) return 0;
    errno = static_cast<int>(-result);
    return -1;
}

static void* answer_address(long result) {
    if (!sys::failed(result)) return reinterpret_cast<void*>(result);
    errno = static_cast<int>(-result);
    return MAP_FAILED;
}

static bool enabled() {
    return __atomic_load_n(&state().enabled, __ATOMIC_ACQUIRE);
}

static void* map(const MapCall& call) {
    long result = 0;
    if (enabled()) {
        if ((call.flags & MAP_FIXED) != 0 && is_ours(call.address, call.length_bytes))
            displace(call.address, call.length_bytes);
        if (map_weights(call, &result)) return answer_address(result);
    }
    return answer_address(
        sys::mmap(call.address, call.length_bytes, call.prot, call.flags, call.fd, call.offset_bytes));
}

static int close_next(int fd) {
    auto* next = state().next.close;
    return next != nullptr ? next(fd) : answer(sys::close(fd));
}

static int close_range_next(unsigned first, unsigned last, int flags) {
    auto* next = state().next.close_range;
    return next != nullptr ? next(first, last, flags)
                           : answer(sys::call(SYS_close_range, first, last, flags));
}

// Closes what lies between our own descriptors. They are close-on-exec already, which is all that
// CLOSE_RANGE_CLOEXEC would change.
static int close_others(unsigned first, unsigned last, int flags) {
    unsigned top = last < kGuardableFds ? last : kGuardableFds - 1;
    for (unsigned fd = first; fd <= top; fd++) {
        if (!is_guarded(static_cast<int>(fd))) continue;
        if (fd > first && close_range_next(first, fd - 1, flags) != 0) return -1;
        if (fd == last) return 0;
        first = fd + 1;
    }
    return close_range_next(first, last, flags);
}

}  // namespace tierd::shim

using namespace tierd::shim;

TIERD_EXPORT void* mmap(void* address, size_t length, int prot, int flags, int fd, off_t offset) noexcept {
    return map({as_address(address), length, prot, flags, fd, static_cast<uint64_t>(offset)});
}

TIERD_EXPORT void* mmap64(void* address, size_t length, int prot, int flags, int fd,
                          off64_t offset) noexcept {
    return map({as_address(address), length, prot, flags, fd, static_cast<uint64_t>(offset)});
}

TIERD_EXPORT int munmap(void* address, size_t length) noexcept {
    uint64_t begin = as_address(address);
    return answer(is_ours(begin, length) ? unmap(begin, length) : sys::munmap(begin, length));
}

TIERD_EXPORT void* mremap(void* address, size_t length, size_t new_length, int flags, ...) noexcept {
    va_list rest;
    va_start(rest, flags);
    void* new_address = (flags & MREMAP_FIXED) != 0 ? va_arg(rest, void*) : nullptr;
    va_end(rest);
    return answer_address(remap(as_address(address), length, new_length, flags, as_address(new_address)));
}

TIERD_EXPORT int mprotect(void* address, size_t length, int prot) noexcept {
    uint64_t begin = as_address(address);
    return answer(is_ours(begin, length) ? protect(begin, length, prot, -1)
                                         : sys::mprotect(begin, length, prot));
}

TIERD_EXPORT int pkey_mprotect(void* address, size_t length, int prot, int key) noexcept {
    uint64_t begin = as_address(address);
    if (is_ours(begin, length)) return answer(protect(begin, length, prot, key));
    return answer(key == -1 ? sys::mprotect(begin, length, prot)
                            : sys::call(SYS_pkey_mprotect, begin, length, prot, key));
}

TIERD_EXPORT int madvise(void* address, size_t length, int advice) noexcept {
    uint64_t begin = as_address(address);
    return answer(is_ours(begin, length) ? advise(begin, length, advice)
                                         : sys::madvise(begin, length, advice));
}

TIERD_EXPORT int posix_madvise(void* address, size_t length, int advice) noexcept {
    // Unlike MADV_DONTNEED it may not drop what was written, so libc ignores it, and so do we.
    if (advice == POSIX_MADV_DONTNEED) return 0;
    uint64_t begin = as_address(address);
    return static_cast<int>(
        -(is_ours(begin, length) ? advise(begin, length, advice) : sys::madvise(begin, length, advice)));
}

TIERD_EXPORT int mlock(const void* address, size_t length) noexcept {
    uint64_t begin = as_address(address);
    return answer(is_ours(begin, length) ? lock_memory(begin, length, 0)
                                         : sys::call(SYS_mlock, begin, length));
}

TIERD_EXPORT int mlock2(const void* address, size_t length, unsigned flags) noexcept {
    uint64_t begin = as_address(address);
    int wanted = static_cast<int>(flags);
    return answer(is_ours(begin, length) ? lock_memory(begin, length, wanted)
                                         : sys::call(SYS_mlock2, begin, length, wanted));
}

TIERD_EXPORT int munlock(const void* address, size_t length) noexcept {
    uint64_t begin = as_address(address);
    return answer(is_ours(begin, length) ? unlock_memory(begin, length)
                                         : sys::call(SYS_munlock, begin, length));
}

TIERD_EXPORT int mlockall(int flags) noexcept {
    return answer(lock_all_memory(flags));
}

TIERD_EXPORT int munlockall() noexcept {
    return answer(unlock_all_memory());
}

// Our own descriptors stay open: without them no process would fill what the engine has mapped.
TIERD_EXPORT int close(int fd) {
    return is_guarded(fd) ? 0 : close_next(fd);
}

TIERD_EXPORT int close_range(unsigned first, unsigned last, int flags) noexcept {
    return first <= last ? close_others(first, last, flags) : close_range_next(first, last, flags);
}

TIERD_EXPORT void closefrom(int first) noexcept {
    close_others(first < 0 ? 0 : static_cast<unsigned>(first), ~0u, 0);
}
