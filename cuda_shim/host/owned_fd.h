// owned_fd.h - the library's own descriptors, in a process whose other code does not know of them.
//
// Some engines close all descriptors that they don't know, in a row. libc's close() skips ours (is_guarded); a bare
// system call does not, and other code may then get the same number.
//
// Owns:      the set of guarded numbers.
// Invariant: the library never reads from, sends to or closes a number that other code has got meanwhile:
//            still_ours() checks with the kernel before each use.
// Callers:   any thread; a single object is not for two threads at once.
// Fails:     -1 or a negative errno in place of the descriptor.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace tierd::shim {

struct OwnedFd {
    int fd = -1;
    uint64_t device = 0;
    uint64_t inode = 0;

    // Takes over `raw`, under a high number where one can be had, so that the engine's own numbers stay as
    // they would be without us. A negative `raw` makes an empty object.
    static OwnedFd own(int raw);
    // A second descriptor of `raw`, close-on-exec, high as well. Empty when there is none to be had.
    static OwnedFd copy_of(int raw);

    bool still_ours() const;
    void close();
};

// True when `fd` is one of ours. Costs a look at one word for all others.
bool is_guarded(int fd);

// What /proc calls the file behind a descriptor of this process, cut to `room` - 1 bytes. False and "" where
// it does not say.
bool name_of(int fd, char* into, size_t room);

}  // namespace tierd::shim
