#include "lib/model/extent_layout.h"

#include <xxhash.h>

#include <algorithm>
#include <set>
#include <tuple>

#include "lib/base/bytes.h"

namespace tierd {
namespace {

constexpr uint64_t kPage = 4 * kKiB;
constexpr uint64_t kSliceLeast = 64 * kKiB;  // smaller tensors of experts (scales, biases) are no slices
constexpr uint64_t kSliceMost = 8 * kMiB;    // of larger ones an even cut adds a quarter at most

bool is_slice(const Tensor& tensor) {
    uint64_t bytes = tensor.end_bytes - tensor.begin_bytes;
    return tensor.role == TIERD_ROLE_EXPERT && tensor.expert != TIERD_NO_EXPERT && bytes >= kSliceLeast &&
           bytes <= kSliceMost;
}

// Cuts at a boundary of a slice, or around the page that it lies in.
void cut_around(std::set<uint64_t>& cuts, uint64_t offset_bytes) {
    cuts.insert(round_down(offset_bytes, kPage));
    cuts.insert(round_up(offset_bytes, kPage));
}

// The multiples of `step` within (begin, end), where the piece is longer than one step or holds a whole one,
// which a huge page can back.
void cut_evenly(std::vector<uint64_t>& cuts, uint64_t begin, uint64_t end, uint64_t step) {
    uint64_t first = round_up(begin, step);
    bool holds_whole = first + step <= end;
    if (!holds_whole && end - begin <= step) return;
    for (uint64_t at = first == begin ? begin + step : first; at < end; at += step) cuts.push_back(at);
}

// One number for equal labels, so that the bytes of a label can be summed by sorting.
uint64_t label_key(const Tensor& tensor) {
    return uint64_t{tensor.role} << 32 | uint64_t{tensor.layer} << 16 | tensor.expert;
}

struct Share {
    uint64_t key;          // label_key()
    uint64_t begin_bytes;  // where the first of it lies
    uint64_t bytes;
};

ExtentLabel largest_label(std::vector<Share>& shares) {
    if (shares.empty()) return {};
    std::ranges::sort(shares, [](const Share& a, const Share& b) {
        return std::tie(a.key, a.begin_bytes) < std::tie(b.key, b.begin_bytes);
    });
    Share best{};
    for (size_t i = 0; i < shares.size();) {
        Share sum = shares[i];
        for (++i; i < shares.size() && shares[i].key == sum.key; ++i) sum.bytes += shares[i].bytes;
        if (sum.bytes > best.bytes || (sum.bytes == best.bytes && sum.begin_bytes < best.begin_bytes))
            best = sum;
    }
    return {.layer = static_cast<uint16_t>(best.key >> 16),
            .expert = static_cast<uint16_t>(best.key),
            .role = static_cast<uint8_t>(best.key >> 32)};
}

}  // namespace

ExtentLayout ExtentLayout::even(uint64_t file_bytes, uint64_t extent_bytes) {
    ExtentLayout layout;
    layout.extent_bytes_ = extent_bytes;
    layout.count_ = static_cast<uint32_t>((file_bytes + extent_bytes - 1) / extent_bytes);
    return layout;
}

ExtentLayout ExtentLayout::by_expert(const TensorMap& map, uint64_t file_bytes, uint64_t extent_bytes) {
    std::set<uint64_t> borders;
    for (const Tensor& tensor : map.tensors) {
        if (!is_slice(tensor)) continue;
        cut_around(borders, tensor.begin_bytes);
        cut_around(borders, tensor.end_bytes);
    }
    if (borders.empty()) return even(file_bytes, extent_bytes);
    borders.insert({0, round_up(file_bytes, kPage)});
    ExtentLayout layout;
    layout.extent_bytes_ = extent_bytes;
    for (auto border = borders.begin(); std::next(border) != borders.end(); ++border) {
        layout.cuts_.push_back(*border);
        cut_evenly(layout.cuts_, *border, *std::next(border), extent_bytes);
    }
    layout.count_ = static_cast<uint32_t>(layout.cuts_.size());
    layout.cuts_.push_back(*borders.rbegin());
    return layout;
}

ExtentLayout ExtentLayout::of_sizes(std::span<const uint32_t> sizes) {
    ExtentLayout layout;
    layout.count_ = static_cast<uint32_t>(sizes.size());
    bool even = true;
    for (uint32_t bytes : sizes) {
        layout.extent_bytes_ = std::max<uint64_t>(layout.extent_bytes_, bytes);
        even = even && bytes == sizes.front();
    }
    if (even) return layout;
    layout.cuts_.push_back(0);
    for (uint32_t bytes : sizes) layout.cuts_.push_back(layout.cuts_.back() + bytes);
    return layout;
}

bool ExtentLayout::is_seam(uint32_t index) const {
    return !is_even() && bytes(index) == kPage;
}

uint32_t ExtentLayout::index_at(uint64_t offset_bytes) const {
    if (is_even()) return static_cast<uint32_t>(offset_bytes / extent_bytes_);
    auto after = std::upper_bound(cuts_.begin(), cuts_.end(), offset_bytes);
    return static_cast<uint32_t>(after - cuts_.begin()) - 1;
}

uint64_t ExtentLayout::fingerprint() const {
    if (is_even()) return extent_bytes_;
    return XXH3_64bits(cuts_.data(), cuts_.size() * sizeof cuts_[0]) >> 1;  // SQLite's integers have a sign
}

std::vector<ExtentLabel> label_extents(const TensorMap& map, const ExtentLayout& layout) {
    std::vector<ExtentLabel> labels(layout.count());
    std::vector<Share> shares;
    size_t first = 0;  // the first tensor that does not end before the extent
    for (uint32_t i = 0; i < layout.count(); ++i) {
        uint64_t begin = layout.begin(i);
        uint64_t end = layout.begin(i + 1);
        while (first < map.tensors.size() && map.tensors[first].end_bytes <= begin) ++first;
        shares.clear();
        for (size_t t = first; t < map.tensors.size() && map.tensors[t].begin_bytes < end; ++t) {
            const Tensor& tensor = map.tensors[t];
            uint64_t from = std::max(begin, tensor.begin_bytes);
            uint64_t to = std::min(end, tensor.end_bytes);
            if (to > from) shares.push_back({label_key(tensor), from, to - from});
        }
        labels[i] = largest_label(shares);
        bool of_an_expert = labels[i].role == TIERD_ROLE_EXPERT;
        if (layout.is_seam(i) && of_an_expert)
            labels[i] = {.layer = labels[i].layer, .expert = TIERD_NO_EXPERT, .role = TIERD_ROLE_OTHER};
    }
    return labels;
}

}  // namespace tierd
