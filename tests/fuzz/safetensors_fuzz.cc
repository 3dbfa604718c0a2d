// safetensors_fuzz.cc - libFuzzer target: any bytes as a safetensors file. Aborts where a tensor map breaks
// its invariant.
//
// Owns:      nothing.
// Callers:   libFuzzer's main, one thread.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "tests/fuzz/map_invariants.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    std::string bytes(reinterpret_cast<const char*>(data), size);
    // Without the '{' behind its length it would be some other kind of file, and nothing would be learned.
    if (size >= 9) bytes[8] = '{';
    // Once as the whole file, once as the header of a file that has room for every tensor.
    for (uint64_t file_bytes : {uint64_t{size}, uint64_t{1} << 40}) {
        std::string broken = tierd::test::parse_and_check(bytes.data(), bytes.size(), file_bytes);
        if (broken.empty()) continue;
        std::fprintf(stderr, "broken: %s\n", broken.c_str());
        std::abort();
    }
    return 0;
}
