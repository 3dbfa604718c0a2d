// lookup.h - the ways in that go by name: dlsym, dlvsym and cuGetProcAddress, and how the real ones are found.
//
// Callers:   any thread, also before any constructor has run.
// Fails:     null, and then the real function is asked and says so in its own way.
#pragma once

#include <stdint.h>

namespace tierd::shim::cuda {

// libc's dlsym, not the one that this library puts before it. Null where libc has none (a static program).
using DlsymFunction = void* (*)(void* handle, const char* name);
DlsymFunction real_dlsym();

// A function of libc itself, whatever stands before it.
void* find_in_libc(const char* name);

// What cuGetProcAddress should have answered where the driver answered `found` for `symbol`.
void* ours_for(const char* symbol, void* found, int cuda_version, uint64_t flags);

}  // namespace tierd::shim::cuda
