// How files are cut: evenly, and around the slices of experts.
#define BOOST_TEST_MODULE extent_layout
#include "lib/model/extent_layout.h"

#include <boost/test/unit_test.hpp>

#include "lib/base/bytes.h"
#include "tests/fuzz/map_invariants.h"

using namespace tierd;

namespace {

constexpr uint64_t kHuge = 2 * kMiB;

// An expert's tensor of `bytes` bytes at `begin`; `role` else.
Tensor tensor(uint64_t begin, uint64_t bytes, uint16_t expert, uint8_t role = TIERD_ROLE_EXPERT) {
    Tensor made;
    made.begin_bytes = begin;
    made.end_bytes = begin + bytes;
    made.layer = 3;
    made.expert = expert;
    made.role = role;
    return made;
}

// 5 MiB of attention from byte 4096 on, then `count` slices of `slice_bytes` each, then 5 MiB of attention.
TensorMap mixture(uint64_t slice_bytes, uint16_t count, uint64_t first_slice = 4096 + 5 * kMiB) {
    TensorMap map;
    map.tensors.push_back(tensor(4096, first_slice - 4096, TIERD_NO_EXPERT, TIERD_ROLE_ATTENTION));
    for (uint16_t i = 0; i < count; i++)
        map.tensors.push_back(tensor(first_slice + i * slice_bytes, slice_bytes, i));
    map.tensors.push_back(
        tensor(map.tensors.back().end_bytes, 5 * kMiB, TIERD_NO_EXPERT, TIERD_ROLE_ATTENTION));
    return map;
}

uint64_t end_of(const TensorMap& map) {
    return map.tensors.back().end_bytes;
}

}  // namespace

BOOST_AUTO_TEST_CASE(an_even_layout_covers_the_file_and_its_last_extent_is_full) {
    ExtentLayout layout = ExtentLayout::even(5 * kMiB + 1, kHuge);
    BOOST_TEST(layout.count() == 3u);
    BOOST_TEST(layout.bytes(2) == kHuge);
    BOOST_TEST(layout.index_at(5 * kMiB) == 2u);
    BOOST_TEST(!layout.is_seam(0));
    BOOST_TEST(test::broken_layout(layout, 5 * kMiB + 1) == "");
}

BOOST_AUTO_TEST_CASE(a_model_without_experts_is_cut_evenly) {
    TensorMap map;
    map.tensors.push_back(tensor(4096, 9 * kMiB, TIERD_NO_EXPERT, TIERD_ROLE_FEED_FORWARD));
    BOOST_TEST(ExtentLayout::by_expert(map, 10 * kMiB, kHuge).is_even());
}

BOOST_AUTO_TEST_CASE(slices_that_are_large_anyway_are_cut_evenly) {
    TensorMap map = mixture(50 * kMiB, 4);
    BOOST_TEST(ExtentLayout::by_expert(map, end_of(map), kHuge).is_even());
}

BOOST_AUTO_TEST_CASE(each_slice_is_an_extent_and_what_lies_around_keeps_huge_pages) {
    TensorMap map = mixture(1088 * kKiB, 8);
    ExtentLayout layout = ExtentLayout::by_expert(map, end_of(map), kHuge);
    BOOST_TEST(test::broken_layout(layout, end_of(map)) == "");
    for (const Tensor& slice : map.tensors) {
        if (slice.role != TIERD_ROLE_EXPERT) continue;
        uint32_t index = layout.index_at(slice.begin_bytes);
        BOOST_TEST(layout.begin(index) == slice.begin_bytes);
        BOOST_TEST(layout.bytes(index) == slice.end_bytes - slice.begin_bytes);
    }
    BOOST_TEST(layout.bytes(0) == kHuge);
    BOOST_TEST(layout.bytes(1) == kHuge);
}

BOOST_AUTO_TEST_CASE(a_page_that_two_slices_share_belongs_to_neither) {
    TensorMap map = mixture(1 * kMiB + 96, 8, 4096 + 5 * kMiB + 32);
    ExtentLayout layout = ExtentLayout::by_expert(map, end_of(map), kHuge);
    BOOST_TEST(test::broken_layout(layout, end_of(map)) == "");
    auto labels = label_extents(map, layout);
    for (const Tensor& slice : map.tensors) {
        if (slice.role != TIERD_ROLE_EXPERT) continue;
        uint32_t first = layout.index_at(slice.begin_bytes);
        BOOST_TEST(layout.is_seam(first));
        BOOST_TEST(layout.is_seam(layout.index_at(slice.end_bytes)));
        BOOST_TEST(labels[first].expert == TIERD_NO_EXPERT);
        BOOST_TEST(labels[first].role != TIERD_ROLE_EXPERT);
        // All between its seams is one extent, and of this expert alone.
        BOOST_TEST(layout.begin(first + 2) == layout.begin(layout.index_at(slice.end_bytes)));
        BOOST_TEST(labels[first + 1].expert == slice.expert);
        BOOST_TEST(labels[first + 1].role == TIERD_ROLE_EXPERT);
    }
}

BOOST_AUTO_TEST_CASE(a_slice_larger_than_an_extent_is_cut_where_huge_pages_begin) {
    TensorMap map = mixture(7 * kMiB, 3);
    ExtentLayout layout = ExtentLayout::by_expert(map, end_of(map), kHuge);
    BOOST_TEST(test::broken_layout(layout, end_of(map)) == "");
    for (uint32_t i = 0; i < layout.count(); i++)
        if (layout.bytes(i) == kHuge) BOOST_TEST(layout.begin(i) % kHuge == 0u);
}

BOOST_AUTO_TEST_CASE(the_same_map_gives_the_same_layout_and_another_one_another) {
    TensorMap map = mixture(1088 * kKiB, 8);
    ExtentLayout layout = ExtentLayout::by_expert(map, end_of(map), kHuge);
    BOOST_TEST(layout.fingerprint() == ExtentLayout::by_expert(map, end_of(map), kHuge).fingerprint());
    TensorMap other = mixture(1088 * kKiB, 7);
    BOOST_TEST(layout.fingerprint() != ExtentLayout::by_expert(other, end_of(other), kHuge).fingerprint());
    BOOST_TEST(layout.fingerprint() <= uint64_t{INT64_MAX});
}
