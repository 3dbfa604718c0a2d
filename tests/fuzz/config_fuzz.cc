// config_fuzz.cc - fuzz target: any bytes as tierd.toml. Aborts where a configuration is accepted that breaks its limits,
// or is refused without a word.
//
// Owns:      nothing.
// Callers:   libFuzzer's main or replay_main.cc, one thread.
#include <cstdio>
#include <cstdlib>

#include "daemon/config.h"
#include "lib/base/bytes.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace tierd;
    auto config = parse_config({reinterpret_cast<const char*>(data), size}, "fuzz");
    if (!config) {
        if (config.error().text().empty()) std::abort();
        return 0;
    }
    constexpr uint64_t kRam = 64 * kGiB;
    bool sane = config->policy.epoch_ms >= 10 && config->policy.epoch_ms <= 10000 &&
                config->memory.extent_bytes >= 64 * kKiB && config->memory.extent_bytes <= 2 * kMiB &&
                budget_bytes(config->memory.budget, kRam) > 0;
    if (!sane) {
        std::fprintf(stderr, "accepted: %.*s\n", static_cast<int>(size), reinterpret_cast<const char*>(data));
        std::abort();
    }
    return 0;
}
