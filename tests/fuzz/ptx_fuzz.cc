// ptx_fuzz.cc - libFuzzer target: any bytes as PTX. Aborts where the layout of a kernel's parameters could not be one.
//
// Owns:      nothing.
// Callers:   libFuzzer's main, one thread.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "tests/simcuda/driver/ptx.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    // Without this it would be no PTX, and nothing would be learned.
    std::string text = ".version 9.0\n" + std::string(reinterpret_cast<const char*>(data), size);
    auto entries = simcuda::ptx_entries(text);
    if (!entries) return 0;
    for (const simcuda::PtxEntry& entry : *entries) {
        uint64_t at = 0;
        for (const simcuda_param& param : entry.params) {
            if (entry.name.empty() || param.size_bytes == 0 || param.offset_bytes < at) std::abort();
            at = uint64_t{param.offset_bytes} + param.size_bytes;
        }
    }
    return 0;
}
