// policy_conduct_test.cc - a policy goes for what it does again and again, and for what no accident explains.
#define BOOST_TEST_MODULE policy_conduct
#include "lib/policy/policy_conduct.h"

#include <boost/test/unit_test.hpp>

#include "lib/base/clock.h"

using namespace tierd;

namespace {

constexpr CallOutcome kCheap{.cpu_ns = 3'000};
constexpr CallOutcome kHeldUp{.cpu_ns = 13 * kNsPerMs};  // beyond a fault's budget of 1 ms

}  // namespace

BOOST_AUTO_TEST_CASE(a_call_that_was_held_up_now_and_then_is_forgiven) {
    PolicyConduct conduct;
    for (int call = 0; call < 1000; call++) conduct.add(Hook::fault, call % 4 == 0 ? kHeldUp : kCheap);
    BOOST_TEST(conduct.objection() == "");
    conduct.add(Hook::fault, {.cpu_ns = 400 * kNsPerMs});
    BOOST_TEST(conduct.objection() == "");
}

BOOST_AUTO_TEST_CASE(the_third_dear_call_of_eight_is_an_objection_that_stays) {
    PolicyConduct conduct;
    for (const CallOutcome& one : {kHeldUp, kCheap, kCheap, kHeldUp, kCheap, kCheap, kCheap}) {
        conduct.add(Hook::fault, one);
        BOOST_TEST(conduct.objection() == "");
    }
    conduct.add(Hook::fault, kHeldUp);
    BOOST_TEST(
        conduct.objection() ==
        "tierd/fault took 13000 µs of processor time and may take 1000, for the third time in eight calls");
    for (int call = 0; call < 20; call++) conduct.add(Hook::fault, kCheap);
    BOOST_TEST(conduct.objection() != "");
}

BOOST_AUTO_TEST_CASE(each_hook_answers_for_itself_and_by_its_own_budget) {
    PolicyConduct conduct;
    for (Hook hook : {Hook::fault, Hook::admit, Hook::fault, Hook::admit}) conduct.add(hook, kHeldUp);
    for (int call = 0; call < 20; call++) conduct.add(Hook::epoch, kHeldUp);  // which may take 50 ms
    BOOST_TEST(conduct.objection() == "");
}

BOOST_AUTO_TEST_CASE(half_a_second_is_an_objection_whether_the_call_ended_or_not) {
    PolicyConduct conduct;
    conduct.add(Hook::init, {.cpu_ns = 501 * kNsPerMs});
    BOOST_TEST(conduct.objection() == "tierd/init took 501000 µs of processor time and may take 100000");
    BOOST_TEST(PolicyConduct::objection_to_running(Hook::epoch, 499 * kNsPerMs) == "");
    BOOST_TEST(PolicyConduct::objection_to_running(Hook::epoch, 501 * kNsPerMs).find("tierd/epoch took") ==
               0u);
}

BOOST_AUTO_TEST_CASE(failing_sixteen_times_in_a_row_is_an_objection) {
    PolicyConduct conduct;
    for (int call = 0; call < 100; call++) conduct.add(Hook::fault, {.verdict = call % 16 == 15 ? 0 : -1});
    BOOST_TEST(conduct.objection() == "");
    for (int call = 0; call < 16; call++) conduct.add(Hook::admit, {.verdict = TIERD_DELAY});
    BOOST_TEST(conduct.objection() == "");
    for (int call = 0; call < 16; call++) conduct.add(Hook::admit, {.failure = -E2BIG});
    BOOST_TEST(conduct.objection() == "tierd/admit could not be run: error 7");
}
