// What the kernel's words about an access mean: data sources, weights, and which of them were asked for.
#define BOOST_TEST_MODULE record
#include <linux/perf_event.h>

#include <boost/test/unit_test.hpp>
#include <cstring>
#include <string>
#include <vector>

#include "lib/sample/perf_event.h"
#include "lib/sample/perf_sample.h"
#include "lib/sample/pmu_events.h"
#include "lib/sample/record.h"
#include "lib/sample/sources.h"
#include "tests/unit/sysfs_tree.h"

namespace tierd::test {

namespace {

// union perf_mem_data_src, by where its fields lie (perf_event_open(2)): op from bit 0, level from 5, number of the level
// from 33, remote 37.
constexpr uint64_t word(uint64_t op, uint64_t level, uint64_t number, uint64_t remote = 0) {
    return op | level << 5 | number << 33 | remote << 37;
}
constexpr uint64_t kLoad = 0x2, kStore = 0x4;
constexpr uint64_t kHit = 0x2, kMiss = 0x4;

struct Row {
    uint64_t word;
    DataSource source;
    int line;
};
constexpr Row kRows[] = {
    {0, DataSource::unknown, __LINE__},
    {UINT64_MAX, DataSource::remote_memory, __LINE__},  // number 0xf: not available; every level is named
    // As perf script prints them: 68100142 is an L1 hit, 68101042 a local RAM hit. No numbers before Linux 4.14.
    {0x68100142, DataSource::cache, __LINE__},
    {0x68101042, DataSource::local_memory, __LINE__},
    {word(kLoad, kHit | 0x10, 0), DataSource::cache, __LINE__},           // fill buffer
    {word(kLoad, kHit | 0x40, 0), DataSource::cache, __LINE__},           // L3
    {word(kLoad, kHit | 0x100, 0), DataSource::remote_memory, __LINE__},  // one hop
    {word(kLoad, kHit | 0x200, 0), DataSource::remote_memory, __LINE__},  // two
    // With numbers.
    {word(kLoad, kHit | 0x8, 0x1), DataSource::cache, __LINE__},
    {word(kLoad, kHit | 0x20, 0x2), DataSource::cache, __LINE__},
    {word(kLoad, kHit | 0x40, 0x3), DataSource::cache, __LINE__},
    {word(kLoad, kHit, 0x5), DataSource::cache, __LINE__},         // L2 miss handling buffer
    {word(kLoad, kHit, 0x6), DataSource::memory_cache, __LINE__},  // memory-side cache
    {word(kLoad, kHit, 0x7), DataSource::cache, __LINE__},         // L0
    {word(kLoad, kHit, 0x9), DataSource::cxl, __LINE__},
    {word(kLoad, kMiss, 0xb), DataSource::cache, __LINE__},  // any cache
    {word(kLoad, kHit, 0xc), DataSource::cache, __LINE__},   // fill buffer
    {word(kLoad, kHit | 0x80, 0xd), DataSource::local_memory, __LINE__},
    {word(kStore, kHit | 0x80, 0xd), DataSource::local_memory, __LINE__},
    {word(kLoad, kHit | 0x100, 0xd, 1), DataSource::remote_memory, __LINE__},
    {word(kLoad, kHit, 0xe), DataSource::persistent, __LINE__},
    {word(kLoad, kHit, 0xe, 1), DataSource::persistent, __LINE__},
};

template <class... T>
std::vector<std::byte> bytes_of(T... values) {
    std::vector<std::byte> bytes;
    auto add = [&](const auto& value) {
        const auto* from = reinterpret_cast<const std::byte*>(&value);
        bytes.insert(bytes.end(), from, from + sizeof value);
    };
    (add(values), ...);
    return bytes;
}

}  // namespace

BOOST_AUTO_TEST_CASE(the_kernels_words_name_the_memory_that_data_came_from) {
    for (const Row& row : kRows)
        BOOST_TEST((data_source_of(row.word) == row.source),
                   "line " << row.line << ": " << data_source_name(data_source_of(row.word)));
}

BOOST_AUTO_TEST_CASE(loads_and_stores_are_told_apart) {
    BOOST_TEST(is_load(0x68100142));
    BOOST_TEST(!is_store(0x68100142));
    BOOST_TEST(is_store(word(kStore, kHit, 1)));
    BOOST_TEST(!is_load(word(kStore, kHit, 1)));
    BOOST_TEST((is_load(word(kLoad | kStore, 0, 0)) && is_store(word(kLoad | kStore, 0, 0))));  // an atomic
}

BOOST_AUTO_TEST_CASE(of_a_source_that_records_everything_only_what_was_asked_for_counts) {
    auto asked = [](PmuUse use, uint64_t source) {
        return is_of_use(use, AccessRecord{.data_source = source});
    };
    const uint64_t l1 = 0x68100142, local = 0x68101042, cxl = word(kLoad, kHit, 0x9);
    const uint64_t remote = word(kLoad, kHit, 0xd, 1), hbm = word(kLoad, kHit, 0x6),
                   store = word(kStore, kHit, 1);
    BOOST_TEST((asked(PmuUse::loads, l1) && asked(PmuUse::loads, cxl) && !asked(PmuUse::loads, store)));
    BOOST_TEST(asked(PmuUse::loads, 0));  // a source that doesn't say
    BOOST_TEST((asked(PmuUse::stores, store) && !asked(PmuUse::stores, l1)));
    BOOST_TEST(
        (asked(PmuUse::l3_misses, local) && asked(PmuUse::l3_misses, cxl) && !asked(PmuUse::l3_misses, l1)));
    BOOST_TEST((asked(PmuUse::local_memory, local) && asked(PmuUse::local_memory, hbm)));
    BOOST_TEST((!asked(PmuUse::local_memory, remote) && asked(PmuUse::remote_memory, remote)));
    BOOST_TEST((asked(PmuUse::far_memory, cxl) && !asked(PmuUse::far_memory, local)));
}

BOOST_AUTO_TEST_CASE(each_use_has_a_word_in_the_configuration) {
    for (const char* name : {"loads", "stores", "l3_misses", "local_memory", "remote_memory", "far_memory"})
        BOOST_TEST(pmu_use(name).has_value(), name);
    BOOST_TEST((pmu_use("far_memory") == PmuUse::far_memory));
    for (const char* name : {"", "load", "far memory", "LOADS"}) BOOST_TEST(!pmu_use(name).has_value(), name);
}

BOOST_AUTO_TEST_CASE(a_weight_is_one_latency_or_three) {
    AccessRecord record;
    const uint64_t fields = PERF_SAMPLE_IP | PERF_SAMPLE_DATA_SRC;
    auto three = bytes_of(uint64_t{1}, uint32_t{70'000}, uint16_t{90}, uint16_t{4}, uint64_t{0x68101042});
    BOOST_TEST(parse_sample(three, {.fields = fields | kSampleWeightStruct}, record));
    BOOST_TEST(record.latency_cycles == 70'000u);
    BOOST_TEST(record.whole_cycles == 90u);
    BOOST_TEST(record.data_source == 0x68101042u);
    auto one = bytes_of(uint64_t{1}, uint64_t{1} << 40, uint64_t{5});
    BOOST_TEST(parse_sample(one, {.fields = fields | PERF_SAMPLE_WEIGHT}, record));
    BOOST_TEST(record.latency_cycles == UINT32_MAX);
    BOOST_TEST(record.whole_cycles == 0u);
    BOOST_TEST(record.data_source == 5u);
    // Both at once the kernel refuses, and so do we; nor is anything read behind the end.
    BOOST_TEST(!parse_sample(one, {.fields = fields | PERF_SAMPLE_WEIGHT | kSampleWeightStruct}, record));
    three.resize(three.size() - 1);
    BOOST_TEST(!parse_sample(three, {.fields = fields | kSampleWeightStruct}, record));
}

BOOST_AUTO_TEST_CASE(what_is_said_of_damon_and_idle_page_tracking_is_what_the_kernel_shows) {
    SysfsTree sys;
    auto says = [](const std::string& why, const char* what) { return why.find(what) != std::string::npos; };
    BOOST_TEST(says(why_no_damon(sys.root()), "CONFIG_DAMON_SYSFS"));
    BOOST_TEST(says(why_no_idle(sys.root()), "CONFIG_IDLE_PAGE_TRACKING"));
    sys.add("kernel/mm/damon/admin/kdamonds/nr_kdamonds|2");
    sys.add("kernel/mm/page_idle/bitmap|");
    BOOST_TEST(says(why_no_damon(sys.root()), "has set up 2 of its threads"));
    sys.add("kernel/mm/damon/admin/kdamonds/0/contexts/0/schemes/0/action|pageout");
    BOOST_TEST(says(why_no_damon(sys.root()), "2 of its threads, the first for the scheme pageout"));
    BOOST_TEST(says(why_no_idle(sys.root()), "512 pages per extent"));
    sys.add("kernel/mm/damon/admin/kdamonds/nr_kdamonds|0");
    BOOST_TEST(says(why_no_damon(sys.root()), "one page of a region"));
}

BOOST_AUTO_TEST_CASE(events_that_the_kernel_names_are_found_by_their_codes) {
    SysfsTree sys;
    sys.add("bus/event_source/devices/cpu/events/mem-loads-aux|event=0x03,umask=0x82");
    sys.add("bus/event_source/devices/cpu/events/odd|config=0x5");
    sys.add("bus/event_source/devices/cpu/events/large|event=0x103,umask=0x1");
    BOOST_TEST(named_event("cpu", "mem-loads-aux", sys.root()).value() == 0x8203u);
    for (const char* name : {"odd", "large", "none"})
        BOOST_TEST((named_event("cpu", name, sys.root()).error().code == Code::unsupported), name);
}

}  // namespace tierd::test
