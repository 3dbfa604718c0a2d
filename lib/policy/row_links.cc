#include "lib/policy/row_links.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace tierd {
namespace {

void link_pass(std::span<tierd_extent> rows, uint32_t first, std::span<const uint32_t> order) {
    std::vector<bool> linked(rows.size());
    uint32_t begin = TIERD_NO_EXTENT;
    uint32_t last = TIERD_NO_EXTENT;
    for (uint32_t index : order) {
        if (index >= rows.size() || linked[index] || rows[index].expert != TIERD_NO_EXPERT) continue;
        linked[index] = true;
        if (last == TIERD_NO_EXTENT)
            begin = index;
        else
            rows[last].next = first + index;
        last = index;
    }
    if (last != TIERD_NO_EXTENT) rows[last].next = first + begin;
}

void link_experts(std::span<tierd_extent> rows, uint32_t first) {
    std::vector<std::pair<uint32_t, uint32_t>> slices;  // (layer << 16 | expert, index)
    for (uint32_t index = 0; index < rows.size(); index++)
        if (rows[index].expert != TIERD_NO_EXPERT)
            slices.emplace_back(uint32_t{rows[index].layer} << 16 | rows[index].expert, index);
    std::ranges::sort(slices);
    size_t begin = 0;
    for (size_t i = 0; i < slices.size(); i++) {
        bool ends = i + 1 == slices.size() || slices[i + 1].first != slices[i].first;
        rows[slices[i].second].sibling = first + slices[ends ? begin : i + 1].second;
        if (ends) begin = i + 1;
    }
}

}  // namespace

void link_rows(std::span<tierd_extent> rows, uint32_t first, uint32_t count,
               std::span<const uint32_t> order) {
    std::span<tierd_extent> ours = rows.subspan(first, count);
    for (uint32_t index = 0; index < count; index++) ours[index].next = ours[index].sibling = first + index;
    link_pass(ours, first, order);
    link_experts(ours, first);
}

}  // namespace tierd
