// trace_fuzz.cc - libFuzzer target: any bytes as a trace. Aborts where a trace breaks its invariant, or is not the same
// after being written and read again.
//
// Owns:      nothing.
// Callers:   libFuzzer's main, one thread.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "tests/fuzz/trace_invariants.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    std::string bytes(reinterpret_cast<const char*>(data), size);
    // Without its magic and version nothing would be learned.
    if (size >= 9) bytes.replace(0, 9, std::string(tierd::kTraceMagic) + "\1");
    std::string broken = tierd::test::parse_and_check_trace(bytes);
    if (broken.empty()) return 0;
    std::fprintf(stderr, "broken: %s\n", broken.c_str());
    std::abort();
}
