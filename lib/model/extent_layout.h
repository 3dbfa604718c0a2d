// extent_layout.h - how a weight file is cut into extents.
//
// Owns:      the cuts of one file.
// Invariant: extents are ascending, adjacent, begin at page boundaries and cover the file. The same file and map give
//            the same layout, so an order learned by index in one run is valid in the next.
// Callers:   any thread; never changes once made. index_at() costs O(1), or O(log extents) if slices are cut.
//
// Dense models are cut evenly. A mixture of experts touches a few slices of its stacked tensors, each often smaller
// than an extent. Cut evenly, every read would fetch bytes of a neighbour that were not touched. So each slice is an
// extent of its own. Slices seldom begin at a page: the page that two of them share is an extent too (a seam);
// otherwise each touch of one slice would fetch both.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "lib/model/tensor_map.h"

namespace tierd {

class ExtentLayout {
  public:
    ExtentLayout() = default;

    // Every extent is `extent_bytes` long (not 0), the last one too: it ends behind the file.
    static ExtentLayout even(uint64_t file_bytes, uint64_t extent_bytes);
    // Slices of experts are extents of their own where that saves much; else as even(). Extents are at most
    // `extent_bytes`, which is a power of two; all else is cut at its multiples.
    static ExtentLayout by_expert(const TensorMap& map, uint64_t file_bytes, uint64_t extent_bytes);

    // Extents of these sizes, in the file's order.
    static ExtentLayout of_sizes(std::span<const uint32_t> sizes);

    bool is_even() const { return cuts_.empty(); }
    uint64_t extent_bytes() const { return extent_bytes_; }  // the longest
    uint32_t count() const { return count_; }
    // Offset in the file, also of the end: index count().
    uint64_t begin(uint32_t index) const { return is_even() ? index * extent_bytes_ : cuts_[index]; }
    // Memory that the extent takes: whole pages.
    uint64_t bytes(uint32_t index) const { return begin(index + 1) - begin(index); }
    bool is_seam(uint32_t index) const;
    // The extent that holds this byte, which must lie before the end.
    uint32_t index_at(uint64_t offset_bytes) const;
    // Distinguishes layouts of one file; for an even one it is the extent size.
    uint64_t fingerprint() const;

  private:
    uint64_t extent_bytes_ = 0;
    uint32_t count_ = 0;
    std::vector<uint64_t> cuts_;  // count_ + 1 offsets; empty: even
};

// What one extent of the file holds: of the labels of the tensors in it, the one with the most bytes (of
// equals, the one that comes first in the file). An extent without any tensor's bytes has the values below.
struct ExtentLabel {
    uint16_t layer = TIERD_NO_LAYER;
    uint16_t expert = TIERD_NO_EXPERT;
    uint8_t role = TIERD_ROLE_OTHER;
};
// One label for each extent. A seam's has no expert and the role "other": both its neighbours need it. Time:
// O(tensors log tensors + extents).
std::vector<ExtentLabel> label_extents(const TensorMap& map, const ExtentLayout& layout);

}  // namespace tierd
