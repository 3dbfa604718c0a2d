#include "lib/sample/pmu_events.h"

#include <fmt/format.h>
#include <perfmon/pfmlib.h>
#include <perfmon/pfmlib_perf_event.h>

#include <algorithm>
#include <cstring>

#include "lib/sample/perf_event.h"

namespace tierd {

namespace {

// The latency bound of 64 cycles leaves out the caches next to the core: what is read from there needs no
// better place.
// clang-format off
constexpr PmuEvent kEvents[] = {
    // Skylake-SP, Cascade Lake-SP
    {"skx", PmuUse::loads,         "MEM_TRANS_RETIRED:LOAD_LATENCY:ldlat=64", 2},
    {"skx", PmuUse::l3_misses,     "MEM_LOAD_RETIRED:L3_MISS",                2},
    {"skx", PmuUse::local_memory,  "MEM_LOAD_L3_MISS_RETIRED:LOCAL_DRAM",     2},
    {"skx", PmuUse::remote_memory, "MEM_LOAD_L3_MISS_RETIRED:REMOTE_DRAM",    2},
    {"skx", PmuUse::stores,        "MEM_INST_RETIRED:ALL_STORES",             2},
    // Ice Lake-SP
    {"icx", PmuUse::loads,         "MEM_TRANS_RETIRED:LOAD_LATENCY:ldlat=64", 2},
    {"icx", PmuUse::l3_misses,     "MEM_LOAD_RETIRED:L3_MISS",                2},
    {"icx", PmuUse::local_memory,  "MEM_LOAD_L3_MISS_RETIRED:LOCAL_DRAM",     2},
    {"icx", PmuUse::remote_memory, "MEM_LOAD_L3_MISS_RETIRED:REMOTE_DRAM",    2},
    {"icx", PmuUse::far_memory,    "MEM_LOAD_RETIRED:LOCAL_PMM",              2},
    {"icx", PmuUse::stores,        "MEM_INST_RETIRED:ALL_STORES",             2},
    // Sapphire Rapids, with and without HBM. CXL memory is a node without processors: reads of it are among those
    // of remote memory that no DRAM of another socket answered, which only the offcore responses show.
    {"spr", PmuUse::loads,         "MEM_TRANS_RETIRED:LOAD_LATENCY:ldlat=64", 2},
    {"spr", PmuUse::l3_misses,     "MEM_LOAD_RETIRED:L3_MISS",                2},
    {"spr", PmuUse::local_memory,  "MEM_LOAD_L3_MISS_RETIRED:LOCAL_DRAM",     2},
    {"spr", PmuUse::remote_memory, "MEM_LOAD_L3_MISS_RETIRED:REMOTE_DRAM",    2},
    {"spr", PmuUse::far_memory,    "OCR:READS_TO_CORE_REMOTE_MEMORY",         0},
    {"spr", PmuUse::stores,        "MEM_INST_RETIRED:ALL_STORES",             2},
    // Zen 4: addresses come from IBS (pmu "ibs_op"), which libpfm4 does not name; these count.
    {"amd64_fam19h_zen4", PmuUse::l3_misses,     "DEMAND_DATA_CACHE_FILLS_FROM_SYSTEM:DRAM_IO_NEAR:DRAM_IO_FAR", 0},
    {"amd64_fam19h_zen4", PmuUse::local_memory,  "DEMAND_DATA_CACHE_FILLS_FROM_SYSTEM:DRAM_IO_NEAR",             0},
    {"amd64_fam19h_zen4", PmuUse::remote_memory, "DEMAND_DATA_CACHE_FILLS_FROM_SYSTEM:DRAM_IO_FAR",              0},
    {"amd64_fam19h_zen4", PmuUse::far_memory,    "DEMAND_DATA_CACHE_FILLS_FROM_SYSTEM:ALT_MEM_NEAR_FAR",         0},
};
// clang-format on

}  // namespace

const char* pmu_use_name(PmuUse use) noexcept {
    switch (use) {
        case PmuUse::loads:
            return "loads";
        case PmuUse::l3_misses:
            return "l3 misses";
        case PmuUse::local_memory:
            return "local memory";
        case PmuUse::remote_memory:
            return "remote memory";
        case PmuUse::far_memory:
            return "far memory";
        case PmuUse::stores:
            return "stores";
    }
    return "unknown";
}

std::optional<PmuUse> pmu_use(std::string_view word) noexcept {
    for (PmuUse use : {PmuUse::loads, PmuUse::l3_misses, PmuUse::local_memory, PmuUse::remote_memory,
                       PmuUse::far_memory, PmuUse::stores}) {
        std::string name = pmu_use_name(use);
        std::ranges::replace(name, ' ', '_');
        if (name == word) return use;
    }
    return std::nullopt;
}

bool is_of_use(PmuUse use, const AccessRecord& record) noexcept {
    const DataSource source = data_source_of(record.data_source);
    switch (use) {
        case PmuUse::loads:
            return !is_store(record.data_source);
        case PmuUse::l3_misses:
            return source != DataSource::cache && source != DataSource::unknown;
        case PmuUse::local_memory:
            return source == DataSource::local_memory || source == DataSource::memory_cache;
        case PmuUse::remote_memory:
            return source == DataSource::remote_memory;
        case PmuUse::far_memory:
            return source == DataSource::cxl || source == DataSource::persistent;
        case PmuUse::stores:
            return is_store(record.data_source);
    }
    return false;
}

std::span<const PmuEvent> pmu_events() {
    return kEvents;
}

Result<PmuLibrary> PmuLibrary::make() {
    if (int error = ::pfm_initialize(); error != PFM_SUCCESS)
        return fail(Code::unsupported, "prepare libpfm4", ::pfm_strerror(error));
    return PmuLibrary();
}

PmuLibrary::~PmuLibrary() {
    if (live_) ::pfm_terminate();
}

std::string PmuLibrary::core_pmu() const {
    for (int number = 0; number < PFM_PMU_MAX; number++) {
        pfm_pmu_info_t info{};
        info.size = sizeof info;
        bool known = ::pfm_get_pmu_info(static_cast<pfm_pmu_t>(number), &info) == PFM_SUCCESS;
        if (known && info.is_present && info.type == PFM_PMU_TYPE_CORE) return info.name;
    }
    return {};
}

Result<PmuEvent> PmuLibrary::event_for(PmuUse use) const {
    std::string pmu = core_pmu();
    for (const PmuEvent& event : kEvents)
        if (event.pmu == pmu && event.use == use) return event;
    const char* why = pmu.starts_with("amd64_")
                          ? "on AMD's processors only IBS samples addresses: the source is ibs"
                          : "the table of events has no row for this processor";
    return fail(Code::unsupported, fmt::format("find an event for {}", pmu_use_name(use)),
                pmu.empty() ? "unknown processor" : pmu, why);
}

Result<perf_event_attr> PmuLibrary::encode(const std::string& name) const {
    perf_event_attr attr{};
    attr.size = sizeof attr;
    pfm_perf_encode_arg_t request{};
    request.size = sizeof request;
    request.attr = &attr;
    int error = ::pfm_get_os_event_encoding(name.c_str(), PFM_PLM3, PFM_OS_PERF_EVENT_EXT, &request);
    if (error != PFM_SUCCESS)
        return fail(Code::not_found, "encode event", name, std::string("libpfm4: ") + ::pfm_strerror(error));
    return attr;
}

}  // namespace tierd
