// Feeds broken bytes to the reader of perf's ring and to the reader of samples.
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "lib/sample/perf_ring.h"
#include "lib/sample/perf_sample.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace tierd;
    uint64_t words[4] = {};
    if (size < sizeof words) return 0;
    std::memcpy(words, data, sizeof words);
    std::vector<std::byte> ring(4096);
    std::memcpy(ring.data(), data + sizeof words, std::min(size - sizeof words, ring.size()));
    perf_event_mmap_page page{};
    page.data_tail = words[0] / 8 * 8;
    page.data_head = page.data_tail + words[1] % 8192;
    SampleFormat format{.fields = words[2],
                        .read_format = words[3] % 32,
                        .user_registers = words[3],
                        .interrupt_registers = words[3]};
    PerfRing reader(&page, ring);
    uint64_t passed = 0;
    reader.drain([&](uint32_t, std::span<const std::byte> body) {
        AccessRecord record;
        parse_sample(body, format, record);
        passed += body.size() + 8;
    });
    if (page.data_tail != page.data_head || passed > ring.size()) std::abort();
    return 0;
}
