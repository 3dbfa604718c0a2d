// map_invariants.h - what holds for every tensor map, whatever bytes it came from.
//
// Owns:      nothing.
// Callers:   the fuzzers and the test that replays their corpus.
// Fails:     parse_and_check() returns the broken rule's words; an empty text means that all hold.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "lib/model/extent_layout.h"
#include "lib/model/tensor_map.h"

namespace tierd::test {

inline std::string broken_rule(const TensorMap& map, uint64_t file_bytes) {
    if (map.tensors.size() > kMaxTensors) return "more tensors than allowed";
    if (map.data_begin_bytes > file_bytes) return "the data begin past the end of the file";
    if (map.split_count == 0 || map.split_index >= map.split_count) return "the part is not one of the parts";
    uint64_t taken_bytes = map.data_begin_bytes;
    for (const Tensor& tensor : map.tensors) {
        if (tensor.name.empty() || tensor.name.size() > kMaxTensorNameBytes + 8)
            return "a name out of its limits";
        if (tensor.begin_bytes < taken_bytes) return "tensors overlap or are out of order";
        if (tensor.end_bytes < tensor.begin_bytes || tensor.end_bytes > file_bytes)
            return "a range outside the file";
        if (tensor.role >= NR_TIERD_ROLES) return "an unknown role";
        if (tensor.layer != TIERD_NO_LAYER && tensor.layer >= map.layers)
            return "a layer that is not counted";
        if (tensor.expert != TIERD_NO_EXPERT && tensor.expert >= map.experts)
            return "an expert that is not counted";
        taken_bytes = tensor.end_bytes;
    }
    return {};
}

// The rule that the layout breaks; empty when it keeps all.
inline std::string broken_layout(const ExtentLayout& layout, uint64_t file_bytes) {
    if (layout.count() > 0 && layout.begin(0) != 0) return "bytes before the first extent";
    if (layout.begin(layout.count()) < file_bytes) return "bytes behind the last extent";
    for (uint32_t i = 0; i < layout.count(); i++) {
        if (layout.begin(i) % 4096 != 0) return "an extent that begins within a page";
        if (layout.bytes(i) == 0 || layout.bytes(i) > layout.extent_bytes())
            return "an extent of a wrong size";
        if (layout.index_at(layout.begin(i)) != i || layout.index_at(layout.begin(i + 1) - 1) != i)
            return "an extent that is not found";
    }
    return {};
}

// Parses `bytes` as the beginning of a file of `file_bytes` and checks all that must hold of it.
inline std::string parse_and_check(const char* bytes, size_t size, uint64_t file_bytes) {
    auto map = parse_tensor_map(bytes, size, file_bytes);
    if (!map) return map.error().text().empty() ? "an error without words" : std::string();
    std::string broken = broken_rule(*map, file_bytes);
    constexpr uint64_t kExtentBytes = 64 << 10;
    if (!broken.empty() || file_bytes >= (1ull << 30)) return broken;
    ExtentLayout layout = ExtentLayout::by_expert(*map, file_bytes, kExtentBytes);
    if (label_extents(*map, layout).size() != layout.count()) return "extents without a label";
    return broken_layout(layout, file_bytes);
}

}  // namespace tierd::test
