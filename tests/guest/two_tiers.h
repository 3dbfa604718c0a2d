// two_tiers.h - the part of a configuration that makes tiers of the guest's nodes for HBM and CXL.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <string>

namespace tierd::guest {

inline std::string two_tiers(uint64_t gpu_mib, uint64_t cxl_mib) {
    return fmt::format(R"([[tier]]
name = "hbm1"
capacity = "{}MiB"
[[tier]]
name = "cxl2"
capacity = "{}MiB"
)",
                       gpu_mib, cxl_mib);
}

}  // namespace tierd::guest
