// userfault.h - the ioctls of userfaultfd(2), as the shim needs them.
//
// Owns:      nothing; the descriptor is the session's.
// Callers:   any thread.
// Fails:     negative errno.
#pragma once

#include <stdint.h>

namespace tierd::shim {

// A userfaultfd for this process: of an open /dev/userfaultfd, or with `device` -1 one that sees only faults
// of user mode. `*can_protect` is set to whether shmem can be write-protected with it.
long make_userfaultfd(int device, bool* can_protect);
bool is_userfaultfd(int fd);

long uffd_register(int uffd, uint64_t begin, uint64_t end, bool write_protect);
long uffd_unregister(int uffd, uint64_t begin, uint64_t end);
void uffd_wake(int uffd, uint64_t begin, uint64_t end);
// Threads that write to the range wait from now on, until uffd_unprotect().
void uffd_protect(int uffd, uint64_t begin, uint64_t end);
void uffd_unprotect(int uffd, uint64_t begin, uint64_t end);
// Puts a private copy of `page` where nothing is mapped. -EEXIST: something is.
long uffd_copy(int uffd, uint64_t address, const void* page);

}  // namespace tierd::shim
