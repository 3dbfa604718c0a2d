// PEBS or IBS for real, where the machine has one of them: loads from memory of our own must come back with their
// addresses.
#define BOOST_TEST_MODULE hardware_source
#include <unistd.h>

#include <boost/test/unit_test.hpp>

#include "lib/base/clock.h"
#include "lib/sample/sources.h"
#include "tests/unit/perf_events.h"

namespace tierd::test {

BOOST_AUTO_TEST_CASE(loads_from_memory_come_back_with_their_addresses) {
    auto pebs = hardware_source("pebs");
    auto ibs = hardware_source("ibs");
    if (!pebs && !ibs) {
        std::fprintf(stderr, "skipped: neither PEBS (%s) nor IBS (%s)\n", pebs.error().text().c_str(),
                     ibs.error().text().c_str());
        std::exit(77);
    }
    PerfSourceConfig config = pebs ? *pebs : *ibs;
    auto source = PerfSource::open(config);
    BOOST_REQUIRE_MESSAGE(source.has_value(), (source ? "" : source.error().text()));
    constexpr size_t kBytes = 256 * kMiB;
    Pages pages(kBytes);
    for (size_t at = 0; at < kBytes; at += 4096) *pages.at(at) = 1;
    uint64_t inside = 0, with_instruction = 0;
    uint64_t stop_ns = monotonic_ns() + 5 * kNsPerSecond;
    size_t at = 0;
    while (inside < 100 && monotonic_ns() < stop_ns) {
        for (int i = 0; i < 100'000; i++) {
            at = (at * 1103515245 + 12345) % kBytes;
            (void)*pages.at(at & ~size_t{63});
        }
        (*source)->drain([&](const AccessRecord& record) {
            bool ours = record.pid == static_cast<uint32_t>(::getpid()) &&
                        record.address >= pages.address() && record.address < pages.address() + kBytes;
            inside += ours;
            with_instruction += ours && record.instruction != 0;
        });
    }
    BOOST_TEST(inside >= 100u);
    BOOST_TEST(with_instruction == inside);
    BOOST_TEST((*source)->counters().damaged == 0u);
}

}  // namespace tierd::test
