// Feeds broken recordings to the reader of perf.data files; what comes out is looked up as a replay would.
#include <cstdint>
#include <cstdlib>

#include "lib/sample/attribution.h"
#include "lib/sample/perf_data.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace tierd;
    MappingHistory book(true);
    auto file = std::make_shared<SampledFile>();
    file->layout = ExtentLayout::even(1u << 20, 64 * 1024);
    uint64_t samples = 0;
    PerfDataVisitor visitor{
        .sample =
            [&](const AccessRecord& record) {
                samples++;
                Place place = book.publish(record.time_ns)->find(record.pid, record.address, record.time_ns);
                if (place.found == Found::yes && place.extent >= file->layout.count()) std::abort();
            },
        .mmap =
            [&](const PerfMmap& mmap) {
                book.add(mmap.pid, {.address = mmap.address,
                                    .length_bytes = mmap.length_bytes,
                                    .offset_bytes = mmap.offset_bytes,
                                    .since_ns = mmap.time_ns,
                                    .file = file});
            },
        .fork = [&](uint32_t parent, uint32_t child, uint64_t at) { book.fork(parent, child, at); },
        .exit = [&](uint32_t pid, uint64_t at) { book.end_process(pid, at); }};
    auto read = read_perf_data(std::span(reinterpret_cast<const std::byte*>(data), size), visitor);
    if (read && read->samples < samples) std::abort();
    return 0;
}
