// driver.h - the real driver's functions, by the names that cuda.h gives them.
//
// Owns:      the table of their addresses.
// Invariant: the table is filled once, when the first of our functions is called or looked for and libcuda.so.1 is in
//            the
//            process, and never changes but for what cuGetProcAddress itself says. Before that nothing here costs
//            anything.
// Callers:   any thread. Nothing here takes another lock.
// Fails:     null for what the driver does not have.
#pragma once

#define __CUDA_API_VERSION_INTERNAL 1
#include <cuda.h>
#include <stdint.h>

#include "cuda_entries.h"  // generated

namespace tierd::shim::cuda {

struct EntryRow {
    const char* name;
    uint16_t base_length;  // of the name without version and variant, as cuGetProcAddress knows it
    bool per_thread;       // the variant of the per-thread default stream
    int version;           // of CUDA, from which cuGetProcAddress means this one; 0: cuda.h does not say
    void* ours;            // null: passed through
};
inline constexpr uint32_t kEntries = static_cast<uint32_t>(Entry::count);
extern const EntryRow kEntryRows[];  // by name; generated

struct Driver {
    uint32_t loaded = 0;  // atomic; set behind the table
    void* functions[kEntries] = {};
};
extern Driver the_driver;

// True when the table is there.
bool load_driver();
// The row of a name; kEntries for names that cuda.h has not.
uint32_t find_entry(const char* name);

inline void* function_at(uint32_t entry) {
    if (__atomic_load_n(&the_driver.loaded, __ATOMIC_ACQUIRE) == 0 && !load_driver()) return nullptr;
    return __atomic_load_n(&the_driver.functions[entry], __ATOMIC_RELAXED);
}

template <class Function>
Function* real_function(Entry entry) {
    return reinterpret_cast<Function*>(function_at(static_cast<uint32_t>(entry)));
}

// The driver's own cuNAME, to be called. Only where the GPU was set up, which looks for all that it needs.
#define TIERD_REAL(name) (tierd::shim::cuda::real_function<decltype(::name)>(tierd::shim::cuda::Entry::name))

}  // namespace tierd::shim::cuda
