// calls.h - an engine's system calls on mappings, for ranges that contain regions.
//
// Every function takes the arguments of the system call of its name and returns its result or a negative errno.
// Ranges may span our regions, other mappings and holes; each part is handled by its kind.
//
// Invariant: tierd is informed that a range is no longer mapped before anything else can be mapped there on its
//            arenas.
// Callers:   any thread, without the shim's locks.
#pragma once

#include <stdint.h>

namespace tierd::shim {

// True when a part of the range is ours. Cheap for most that is not; every function below asks it first.
bool is_ours(uint64_t begin, uint64_t length_bytes);

long unmap(uint64_t begin, uint64_t length_bytes);
long remap(uint64_t begin, uint64_t length_bytes, uint64_t new_length_bytes, int flags, uint64_t new_address);
// `key` -1: mprotect(2); else pkey_mprotect(2).
long protect(uint64_t begin, uint64_t length_bytes, int prot, int key);
long advise(uint64_t begin, uint64_t length_bytes, int advice);

// mlock(2) and mlock2(2) with `flags`. tierd's budget rules what is in memory: on our regions this is advice
// to fill them.
long lock_memory(uint64_t begin, uint64_t length_bytes, int flags);
long unlock_memory(uint64_t begin, uint64_t length_bytes);
long lock_all_memory(int flags);
long unlock_all_memory();

// Something else is about to be mapped over the range: our regions in it become the kernel's first.
void displace(uint64_t begin, uint64_t length_bytes);

}  // namespace tierd::shim
