// backing.h - the kinds of pages that an arena can consist of. Callers: any thread; values.
#pragma once

#include <cstdint>

namespace tierd {

enum class Backing : uint8_t {
    shmem_small,  // 4 KiB pages
    shmem_thp,    // transparent huge pages, where memory is not too fragmented
    hugetlb,      // 2 MiB pages from the hugetlb pool; only for mappings that can't be written
};
const char* backing_name(Backing backing) noexcept;  // "shmem 4k", "shmem thp", "hugetlb 2m"

}  // namespace tierd
