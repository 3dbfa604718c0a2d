// decisions_fuzz.cc - fuzz target: any bytes as the choices of a simulated machine whose policy talks nonsense: what it proposes and
// when, and what the disk, the sessions and the administrator do between its words.
//
// Owns:      nothing; each input has a machine of its own (tests/sim).
// Callers:   libFuzzer's main or replay_main.cc, one thread.
// Fails:     aborts where a promise is broken: wrong bytes, a tier beyond its capacity, a touch that is not answered, memory
//            that is left behind.
#include <spdlog/spdlog.h>

#include "tests/sim/scenario.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    spdlog::set_level(spdlog::level::off);
    if (size == 0) return 0;
    tierd::sim::run_seed(1, {.choices = {data, size}});
    return 0;
}
