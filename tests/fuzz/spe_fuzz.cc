// Feeds broken bytes to the reader of Arm's SPE: the first part becomes the kernel's records, the rest the AUX ring.
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "lib/sample/spe_stream.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace tierd;
    constexpr size_t kDataBytes = 512, kAuxBytes = 1024;
    uint64_t words[3] = {};
    if (size < sizeof words) return 0;
    std::memcpy(words, data, sizeof words);
    data += sizeof words;
    size -= sizeof words;
    std::vector<std::byte> ring(kDataBytes), aux(kAuxBytes);
    size_t records = std::min(size, kDataBytes);
    std::memcpy(ring.data(), data, records);
    std::memcpy(aux.data(), data + records, std::min(size - records, kAuxBytes));
    perf_event_mmap_page page{};
    page.data_head = kDataBytes;
    page.aux_tail = words[0];
    page.aux_head = words[0] + words[1] % (2 * kAuxBytes);
    page.cap_user_time = words[2] & 1;
    page.time_mult = static_cast<uint32_t>(words[2] >> 8);
    page.time_shift = static_cast<uint16_t>(words[2] >> 40);
    SpeStream stream(&page, ring, aux, 0, (words[2] & 2) != 0);
    uint64_t seen = 0;
    stream.drain(1, [&](const AccessRecord& record) { seen += record.pid != 0; });
    if (stream.counters().records != seen) std::abort();
    // The packets alone, in two pieces.
    SpeDecoder decoder;
    std::span whole(reinterpret_cast<const std::byte*>(data), size);
    uint64_t decoded = 0;
    auto count = [&](const SpeRecord&) { decoded++; };
    decoder.decode(whole.first(size / 3), count);
    decoder.decode(whole.subspan(size / 3), count);
    if (decoded != decoder.records() || decoded > size) std::abort();
    return 0;
}
