#include "lib/policy/shares.h"

#include <algorithm>
#include <numeric>

namespace tierd {

std::vector<uint64_t> fair_shares(const std::vector<uint64_t>& wants_bytes, uint64_t capacity_bytes) {
    std::vector<size_t> by_size(wants_bytes.size());
    std::iota(by_size.begin(), by_size.end(), size_t{0});
    std::ranges::sort(by_size, {}, [&](size_t model) { return wants_bytes[model]; });
    std::vector<uint64_t> shares(wants_bytes.size());
    uint64_t left_bytes = capacity_bytes;
    for (size_t done = 0; done < by_size.size(); ++done) {
        uint64_t equal_part_bytes = left_bytes / (by_size.size() - done);
        uint64_t share_bytes = std::min(wants_bytes[by_size[done]], equal_part_bytes);
        shares[by_size[done]] = share_bytes;
        left_bytes -= share_bytes;
    }
    return shares;
}

}  // namespace tierd
