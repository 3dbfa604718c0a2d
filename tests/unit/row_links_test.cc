// The chains that a row carries for policies: the pass, and the slices of an expert.
#define BOOST_TEST_MODULE row_links
#include <boost/test/unit_test.hpp>
#include <vector>

#include "lib/policy/row_links.h"

namespace {

using namespace tierd;

std::vector<tierd_extent> rows_of(size_t count) {
    std::vector<tierd_extent> rows(count);
    for (tierd_extent& row : rows) row.layer = row.expert = TIERD_NO_EXPERT;
    return rows;
}

BOOST_AUTO_TEST_CASE(next_follows_the_order_and_leads_back_to_its_beginning) {
    auto rows = rows_of(8);
    link_rows(rows, 2, 5, std::vector<uint32_t>{3, 0, 1, 3, 77});
    BOOST_TEST(rows[2 + 3].next == 2u + 0);
    BOOST_TEST(rows[2 + 0].next == 2u + 1);
    BOOST_TEST(rows[2 + 1].next == 2u + 3);
    BOOST_TEST(rows[2 + 2].next == 2u + 2);  // not in the order: nothing is known to follow
    BOOST_TEST(rows[0].next == 0u);          // another model's row is left alone
    BOOST_TEST(rows[7].next == 0u);
}

BOOST_AUTO_TEST_CASE(slices_of_an_expert_form_a_ring_and_have_no_place_in_the_pass) {
    auto rows = rows_of(7);
    for (uint32_t slice : {1u, 3u, 6u}) {
        rows[slice].layer = 4;
        rows[slice].expert = 9;
    }
    rows[2].layer = 4;
    rows[2].expert = 8;
    link_rows(rows, 0, 7, std::vector<uint32_t>{0, 1, 2, 3, 4, 5, 6});
    BOOST_TEST(rows[1].sibling == 3u);
    BOOST_TEST(rows[3].sibling == 6u);
    BOOST_TEST(rows[6].sibling == 1u);
    BOOST_TEST(rows[2].sibling == 2u);
    BOOST_TEST(rows[0].sibling == 0u);
    BOOST_TEST(rows[0].next == 4u);
    BOOST_TEST(rows[1].next == 1u);
    BOOST_TEST(rows[5].next == 0u);
}

}  // namespace
