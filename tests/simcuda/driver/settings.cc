#include "tests/simcuda/driver/settings.h"

#include <bit>
#include <charconv>
#include <cstdlib>
#include <string_view>

#include "lib/base/bytes.h"

namespace simcuda {
namespace {

using tierd::Code;
using tierd::Result;

std::string text_of(const char* name) {
    const char* value = ::getenv(name);
    return value ? value : "";
}

Result<uint64_t> bytes_of(const char* name, uint64_t otherwise) {
    std::string text = text_of(name);
    if (text.empty()) return otherwise;
    Result<uint64_t> bytes = tierd::parse_bytes(text);
    if (!bytes)
        return tierd::fail(Code::bad_config, std::string("use ") + name, text, "give a size such as 4GiB");
    return *bytes;
}

Result<uint64_t> count_of(const char* name, uint64_t otherwise) {
    std::string text = text_of(name);
    if (text.empty()) return otherwise;
    uint64_t count = 0;
    auto [end, bad] = std::from_chars(text.data(), text.data() + text.size(), count);
    if (bad != std::errc{} || end != text.data() + text.size())
        return tierd::fail(Code::bad_config, std::string("use ") + name, text, "give a whole number");
    return count;
}

// One of two words; empty is the first.
Result<bool> is_second(const char* name, std::string_view first, std::string_view second) {
    std::string text = text_of(name);
    if (text.empty() || text == first) return false;
    if (text == second) return true;
    return tierd::fail(Code::bad_config, std::string("use ") + name, text,
                       "say " + std::string(first) + " or " + std::string(second));
}

}  // namespace

Result<Settings> Settings::from_environment() {
    Settings s;
    Result<uint64_t> memory = bytes_of("SIMCUDA_MEMORY", s.memory_bytes);
    Result<uint64_t> context = bytes_of("SIMCUDA_CONTEXT_BYTES", 0);
    Result<uint64_t> copy = bytes_of("SIMCUDA_COPY_BYTES_PER_S", 0);
    Result<uint64_t> launch = count_of("SIMCUDA_LAUNCH_NS", 0);
    Result<uint64_t> granularity = bytes_of("SIMCUDA_GRANULARITY", s.granularity_bytes);
    for (Result<uint64_t>* number : {&memory, &context, &copy, &launch, &granularity})
        if (!*number) return std::unexpected(number->error());
    if (!std::has_single_bit(*granularity) || *granularity < (64 << 10))
        return tierd::fail(Code::bad_config, "use SIMCUDA_GRANULARITY", text_of("SIMCUDA_GRANULARITY"),
                           "give a power of two from 64KiB on");
    Result<bool> virtual_time = is_second("SIMCUDA_TIME", "real", "virtual");
    Result<bool> answer = is_second("SIMCUDA_MISUSE", "abort", "error");
    Result<bool> poison = is_second("SIMCUDA_POISON", "0", "1");
    for (Result<bool>* word : {&virtual_time, &answer, &poison})
        if (!*word) return std::unexpected(word->error());
    s.memory_bytes = *memory;
    s.memory_given = ::getenv("SIMCUDA_MEMORY") != nullptr;
    s.context_bytes = *context;
    s.granularity_bytes = *granularity;
    s.copy_bytes_per_s = *copy;
    s.launch_ns = *launch;
    s.virtual_time = *virtual_time;
    s.abort_on_misuse = !*answer;
    s.poison = *poison;
    s.gpu = text_of("SIMCUDA_GPU");
    s.kernels = text_of("SIMCUDA_KERNELS");
    s.stats = text_of("SIMCUDA_STATS");
    return s;
}

}  // namespace simcuda
