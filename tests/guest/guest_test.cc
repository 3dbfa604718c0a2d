// guest_test.cc - what needs a machine with several memory nodes. Runs inside the guest of scripts/guest.sh only.
#define BOOST_TEST_MODULE guest
#include <boost/test/unit_test.hpp>

#include "tests/guest/machine.h"

using namespace tierd::guest;

BOOST_AUTO_TEST_CASE(memory_plugged_into_an_empty_node_appears_and_goes_again) {
    BOOST_TEST(online_nodes() == (std::vector{0, 1, 2}), boost::test_tools::per_element());
    plug_memory("late", 3, 256);
    BOOST_TEST(online_nodes() == (std::vector{0, 1, 2, 3}), boost::test_tools::per_element());
    pull_memory("late", 3);
    BOOST_TEST(online_nodes() == (std::vector{0, 1, 2}), boost::test_tools::per_element());
}
