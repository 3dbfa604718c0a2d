// proc_address.cc - cuGetProcAddress: the same functions, by name, version and default stream.
//
// Invariant: each row's function has exactly the type that cudaTypedefs.h gives that name in that version; the compiler
//            checks it.
#define __CUDA_API_VERSION_INTERNAL
#include <cuda.h>
#include <cudaTypedefs.h>

#include <string_view>
#include <type_traits>

#include "tests/simcuda/driver/misuse.h"

using namespace simcuda;

#define ENTRY(name, version, symbol, type) static_assert(std::is_same_v<type, decltype(&symbol)>, #symbol);
#define PER_THREAD ENTRY
#include "tests/simcuda/driver/entry_points.inc"
#undef ENTRY
#undef PER_THREAD

namespace {

struct Row {
    std::string_view name;
    int version;
    bool per_thread;
    void* function;
};

#define ENTRY(name, version, symbol, type) {#name, version, false, reinterpret_cast<void*>(&symbol)},
#define PER_THREAD(name, version, symbol, type) {#name, version, true, reinterpret_cast<void*>(&symbol)},
const Row kRows[] = {
#include "tests/simcuda/driver/entry_points.inc"
};
#undef ENTRY
#undef PER_THREAD

// The newest that is not newer than `version`; `known`: there is a row of that name at all.
const Row* find(std::string_view name, int version, bool per_thread, bool* known) {
    const Row* best = nullptr;
    for (const Row& row : kRows) {
        if (row.name != name || row.per_thread != per_thread) continue;
        *known = true;
        if (row.version <= version && (!best || row.version > best->version)) best = &row;
    }
    return best;
}

}  // namespace

CUresult CUDAAPI cuGetProcAddress_v2(const char* symbol, void** out, int version, cuuint64_t flags,
                                     CUdriverProcAddressQueryResult* status) {
    CallName call("cuGetProcAddress");
    constexpr cuuint64_t kKnown =
        CU_GET_PROC_ADDRESS_LEGACY_STREAM | CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM;
    if (!symbol || !out || (flags & ~kKnown)) return misuse(CUDA_ERROR_INVALID_VALUE, "flags {}", flags);
    if (version > CUDA_VERSION) return CUDA_ERROR_INVALID_VALUE;
    bool known = false;
    const Row* row = nullptr;
    if (flags & CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM) row = find(symbol, version, true, &known);
    if (!row) row = find(symbol, version, false, &known);
    *out = row ? row->function : nullptr;
    if (status)
        *status = row     ? CU_GET_PROC_ADDRESS_SUCCESS
                  : known ? CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT
                          : CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuGetProcAddress(const char* symbol, void** out, int version, cuuint64_t flags) {
    return cuGetProcAddress_v2(symbol, out, version, flags, nullptr);
}
