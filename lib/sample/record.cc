#include "lib/sample/record.h"

#include <linux/perf_event.h>

namespace tierd {

const char* data_source_name(DataSource source) noexcept {
    switch (source) {
        case DataSource::cache:
            return "cache";
        case DataSource::memory_cache:
            return "cache of memory";
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
    // Older headers lack the names. L2_MHB, MSC and L0: Linux 6.11; CXL: 6.1.
    constexpr uint64_t kMissBuffer = 0x05, kMemoryCache = 0x06, kL0 = 0x07, kCxl = 0x09;
    perf_mem_data_src source{};
    source.val = perf_data_source;
    bool remote = source.mem_remote != 0;
    switch (source.mem_lvl_num) {
        case kCxl:
            return DataSource::cxl;
        case kMemoryCache:
            return DataSource::memory_cache;
        case PERF_MEM_LVLNUM_PMEM:
            return DataSource::persistent;
        case PERF_MEM_LVLNUM_RAM:
            return remote ? DataSource::remote_memory : DataSource::local_memory;
        case kMissBuffer:
        case kL0:
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

bool is_load(uint64_t perf_data_source) noexcept {
    perf_mem_data_src source{};
    source.val = perf_data_source;
    return (source.mem_op & PERF_MEM_OP_LOAD) != 0;
}

bool is_store(uint64_t perf_data_source) noexcept {
    perf_mem_data_src source{};
    source.val = perf_data_source;
    return (source.mem_op & PERF_MEM_OP_STORE) != 0;
}

}  // namespace tierd
