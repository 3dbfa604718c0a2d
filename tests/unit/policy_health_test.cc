// policy_health_test.cc - a policy goes for what it does again and again, and for what no accident explains.
#define BOOST_TEST_MODULE policy_health
#include "lib/policy/policy_health.h"

#include <boost/test/unit_test.hpp>

#include "lib/base/clock.h"

using namespace tierd;

namespace {

constexpr CallOutcome kCheap{.cpu_ns = 3'000};
constexpr CallOutcome kHeldUp{.cpu_ns = 13 * kNsPerMs};  // beyond a fault's budget of 1 ms

}  // namespace

BOOST_AUTO_TEST_CASE(a_call_that_was_held_up_now_and_then_is_forgiven) {
    PolicyHealth health;
    for (int call = 0; call < 1000; call++) health.add(Hook::fault, call % 4 == 0 ? kHeldUp : kCheap);
    BOOST_TEST(health.exit_reason() == "");
    health.add(Hook::fault, {.cpu_ns = 400 * kNsPerMs});
    BOOST_TEST(health.exit_reason() == "");
}

BOOST_AUTO_TEST_CASE(the_third_dear_call_of_eight_is_an_objection_that_stays) {
    PolicyHealth health;
    for (const CallOutcome& one : {kHeldUp, kCheap, kCheap, kHeldUp, kCheap, kCheap, kCheap}) {
        health.add(Hook::fault, one);
        BOOST_TEST(health.exit_reason() == "");
    }
    health.add(Hook::fault, kHeldUp);
    BOOST_TEST(
        health.exit_reason() ==
        "tierd/fault took 13000 µs of processor time and may take 1000, for the third time in eight calls");
    for (int call = 0; call < 20; call++) health.add(Hook::fault, kCheap);
    BOOST_TEST(health.exit_reason() != "");
}

BOOST_AUTO_TEST_CASE(each_hook_answers_for_itself_and_by_its_own_budget) {
    PolicyHealth health;
    for (Hook hook : {Hook::fault, Hook::admit, Hook::fault, Hook::admit}) health.add(hook, kHeldUp);
    for (int call = 0; call < 20; call++) health.add(Hook::epoch, kHeldUp);  // which may take 50 ms
    BOOST_TEST(health.exit_reason() == "");
}

BOOST_AUTO_TEST_CASE(half_a_second_is_an_objection_whether_the_call_ended_or_not) {
    PolicyHealth health;
    health.add(Hook::init, {.cpu_ns = 501 * kNsPerMs});
    BOOST_TEST(health.exit_reason() == "tierd/init took 501000 µs of processor time and may take 100000");
    BOOST_TEST(PolicyHealth::reason_to_end_running(Hook::epoch, 499 * kNsPerMs) == "");
    BOOST_TEST(PolicyHealth::reason_to_end_running(Hook::epoch, 501 * kNsPerMs).find("tierd/epoch took") ==
               0u);
}

BOOST_AUTO_TEST_CASE(failing_sixteen_times_in_a_row_is_an_objection) {
    PolicyHealth health;
    for (int call = 0; call < 100; call++) health.add(Hook::fault, {.verdict = call % 16 == 15 ? 0 : -1});
    BOOST_TEST(health.exit_reason() == "");
    for (int call = 0; call < 16; call++) health.add(Hook::admit, {.verdict = TIERD_DELAY});
    BOOST_TEST(health.exit_reason() == "");
    for (int call = 0; call < 16; call++) health.add(Hook::admit, {.failure = -E2BIG});
    BOOST_TEST(health.exit_reason() == "tierd/admit could not be run: error 7");
}
