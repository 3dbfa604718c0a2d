// Names against codes: what libpfm4 makes of our table must be what Intel's and AMD's lists of events say.
#define BOOST_TEST_MODULE pmu_events
#include <sys/wait.h>
#include <unistd.h>

#include <boost/test/unit_test.hpp>
#include <cstdio>
#include <cstdlib>
#include <functional>

#include "lib/sample/pmu_events.h"
#include "lib/sample/sources.h"

namespace tierd {

namespace {

// The documented code: event in bits 0-7, mask in bits 8-15; what goes into a further register in `extra`.
struct Documented {
    const char* pmu;
    PmuUse use;
    uint64_t event, mask, extra;
    int line;
};
constexpr Documented kDocumented[] = {
    // MEM_TRANS_RETIRED.LOAD_LATENCY_GT_64: event CDH mask 01H, MSR 3F6H = 40H
    {"skx", PmuUse::loads, 0xcd, 0x01, 0x40, __LINE__},
    {"icx", PmuUse::loads, 0xcd, 0x01, 0x40, __LINE__},
    {"spr", PmuUse::loads, 0xcd, 0x01, 0x40, __LINE__},
    // MEM_LOAD_RETIRED.L3_MISS: D1H 20H
    {"skx", PmuUse::l3_misses, 0xd1, 0x20, 0, __LINE__},
    {"icx", PmuUse::l3_misses, 0xd1, 0x20, 0, __LINE__},
    {"spr", PmuUse::l3_misses, 0xd1, 0x20, 0, __LINE__},
    // MEM_LOAD_L3_MISS_RETIRED.LOCAL_DRAM: D3H 01H, .REMOTE_DRAM: D3H 02H
    {"skx", PmuUse::local_memory, 0xd3, 0x01, 0, __LINE__},
    {"icx", PmuUse::local_memory, 0xd3, 0x01, 0, __LINE__},
    {"spr", PmuUse::local_memory, 0xd3, 0x01, 0, __LINE__},
    {"skx", PmuUse::remote_memory, 0xd3, 0x02, 0, __LINE__},
    {"icx", PmuUse::remote_memory, 0xd3, 0x02, 0, __LINE__},
    {"spr", PmuUse::remote_memory, 0xd3, 0x02, 0, __LINE__},
    // MEM_LOAD_RETIRED.LOCAL_PMM: D1H 80H
    {"icx", PmuUse::far_memory, 0xd1, 0x80, 0, __LINE__},
    // OCR.READS_TO_CORE.REMOTE_MEMORY: 2AH 01H, MSR 1A6H = 733004477H
    {"spr", PmuUse::far_memory, 0x2a, 0x01, 0x733004477, __LINE__},
    // MEM_INST_RETIRED.ALL_STORES: D0H 82H
    {"skx", PmuUse::stores, 0xd0, 0x82, 0, __LINE__},
    {"icx", PmuUse::stores, 0xd0, 0x82, 0, __LINE__},
    {"spr", PmuUse::stores, 0xd0, 0x82, 0, __LINE__},
    // PMCx043 demand data cache fills by source: 08h DRAM near, 40h DRAM far, 80h alternate memories (CXL)
    {"amd64_fam19h_zen4", PmuUse::l3_misses, 0x43, 0x48, 0, __LINE__},
    {"amd64_fam19h_zen4", PmuUse::local_memory, 0x43, 0x08, 0, __LINE__},
    {"amd64_fam19h_zen4", PmuUse::remote_memory, 0x43, 0x40, 0, __LINE__},
    {"amd64_fam19h_zen4", PmuUse::far_memory, 0x43, 0x80, 0, __LINE__},
};

// libpfm4 looks at the processor once in a process: each of the others is one of a process of its own.
bool as_processor(const char* name, const std::function<bool()>& check) {
    pid_t child = ::fork();
    if (child == 0) {
        ::setenv("LIBPFM_FORCE_PMU", name, 1);
        ::_exit(check() ? 0 : 1);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

bool encodes_as(const Documented& row) {
    auto library = PmuLibrary::make();
    if (!library || library->core_pmu() != row.pmu) return false;
    auto event = library->event_for(row.use);
    auto attr = event ? library->encode(std::string(event->name)) : std::unexpected(event.error());
    if (!attr) return false;
    std::fprintf(stderr, "%s %s: config %llx, config1 %llx\n", row.pmu, pmu_use_name(row.use), attr->config,
                 attr->config1);
    return (attr->config & 0xff) == row.event && (attr->config >> 8 & 0xff) == row.mask &&
           attr->config1 == row.extra;
}

}  // namespace

BOOST_AUTO_TEST_CASE(every_row_of_the_table_encodes_to_the_documented_code) {
    BOOST_TEST(std::size(kDocumented) == pmu_events().size());
    for (const Documented& row : kDocumented)
        BOOST_TEST(as_processor(row.pmu, [&] { return encodes_as(row); }), "line " << row.line);
}

BOOST_AUTO_TEST_CASE(an_event_that_does_not_exist_is_refused_with_libpfms_reason) {
    for (const char* name : {"NO_SUCH_EVENT", "MEM_LOAD_RETIRED:NO_SUCH_MASK", "", ":",
                             "MEM_LOAD_RETIRED:L3_MISS:ldlat=zero", "nosuchpmu::MEM_LOAD_RETIRED:L3_MISS"}) {
        bool refused = as_processor("spr", [&] {
            auto attr = PmuLibrary::make()->encode(name);
            return !attr && attr.error().code == Code::not_found &&
                   attr.error().hint.starts_with("libpfm4: ");
        });
        BOOST_TEST(refused, name);
    }
}

BOOST_AUTO_TEST_CASE(a_processor_without_rows_is_said_so) {
    BOOST_TEST(as_processor("core", [] {  // of 2006
        auto event = PmuLibrary::make()->event_for(PmuUse::loads);
        return !event && event.error().code == Code::unsupported;
    }));
}

BOOST_AUTO_TEST_CASE(on_amds_processors_the_source_of_addresses_is_said_to_be_ibs) {
    BOOST_TEST(as_processor("amd64_fam19h_zen4", [] {
        auto event = PmuLibrary::make()->event_for(PmuUse::loads);
        return !event && event.error().hint.find("the source is ibs") != std::string::npos;
    }));
}

BOOST_AUTO_TEST_CASE(every_source_that_is_not_offered_says_why) {
    auto offers = discover_sources();
    BOOST_TEST(offers.size() == 6u);
    for (const SourceOffer& offer : offers) {
        BOOST_TEST_CONTEXT(offer.name) {
            BOOST_TEST(offer.available == offer.unavailable_reason.empty());
            BOOST_TEST(offer.unavailable_reason.find('\n') == std::string::npos);
            BOOST_TEST(!offer.record_fields.empty());
        }
    }
}

}  // namespace tierd
