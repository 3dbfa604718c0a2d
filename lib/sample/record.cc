#include "lib/sample/record.h"

#include <linux/perf_event.h>

namespace tierd {

const char* data_source_name(DataSource source) noexcept {
    switch (source) {
        case DataSource::cache:
            return "cache";
        case DataSource::local_memory:
            return "local memory";
        case DataSource::remote_memory:
            return "remote memory";
        case DataSource::cxl:
            return "cxl";
        case DataSource::persistent:
            return "persistent memory";
        case DataSource::unknown:
            break;
    }
    return "unknown";
}

DataSource data_source_of(uint64_t perf_data_source) noexcept {
    constexpr uint64_t kCxl = 0x09;  // PERF_MEM_LVLNUM_CXL, Linux 6.1; older headers lack the name
    perf_mem_data_src source{};
    source.val = perf_data_source;
    bool remote = source.mem_remote != 0;
    switch (source.mem_lvl_num) {
        case kCxl:
            return DataSource::cxl;
        case PERF_MEM_LVLNUM_PMEM:
            return DataSource::persistent;
        case PERF_MEM_LVLNUM_RAM:
            return remote ? DataSource::remote_memory : DataSource::local_memory;
        case PERF_MEM_LVLNUM_L1:
        case PERF_MEM_LVLNUM_L2:
        case PERF_MEM_LVLNUM_L3:
        case PERF_MEM_LVLNUM_L4:
        case PERF_MEM_LVLNUM_LFB:
        case PERF_MEM_LVLNUM_ANY_CACHE:
            return DataSource::cache;
        default:
            break;
    }
    // What kernels before 4.14 wrote: a mask of levels.
    if ((source.mem_lvl & (PERF_MEM_LVL_REM_RAM1 | PERF_MEM_LVL_REM_RAM2)) != 0)
        return DataSource::remote_memory;
    if ((source.mem_lvl & PERF_MEM_LVL_LOC_RAM) != 0) return DataSource::local_memory;
    constexpr uint64_t kCaches = PERF_MEM_LVL_L1 | PERF_MEM_LVL_LFB | PERF_MEM_LVL_L2 | PERF_MEM_LVL_L3;
    return (source.mem_lvl & kCaches) != 0 ? DataSource::cache : DataSource::unknown;
}

}  // namespace tierd
