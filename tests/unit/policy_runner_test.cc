// Where a policy's programs run: nobody waits for one, and one that goes too far is objected to.
#define BOOST_TEST_MODULE policy_runner
#include "lib/policy/policy_runner.h"

#include <algorithm>
#include <atomic>
#include <boost/test/unit_test.hpp>
#include <cstdlib>
#include <iostream>
#include <thread>

using namespace tierd;

namespace {

struct NeedsBpf {
    NeedsBpf() {
        if (auto usable = bpf_usable(); !usable) {
            std::cout << "skipped: policies can't be loaded here: " << usable.error().text() << std::endl;
            std::_Exit(77);
        }
    }
};

std::shared_ptr<BpfObject> loaded(const std::string& name, std::vector<Knob> knobs = {}) {
    const char* told = std::getenv("TIERD_BUILD_DIR");
    auto file = read_object(std::string(told ? told : "build") + "/tests/policies/" + name + ".bpf.o");
    BOOST_REQUIRE_MESSAGE(file.has_value(), (file ? "" : file.error().text()));
    auto object = BpfObject::load(*file, knobs, BpfTables::make(4096).value());
    BOOST_REQUIRE_MESSAGE(object.has_value(), (object ? "" : object.error().text()));
    return *object;
}

// Until it is true; programs run when the machine lets them.
template <class Done>
bool comes_true(Done done) {
    for (int i = 0; i < 20'000; i++) {
        if (done()) return true;
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return false;
}

PolicyCall fault_of(uint32_t extent) {
    PolicyCall call{.hook = Hook::fault};
    call.arguments.extent = extent;
    return call;
}

}  // namespace

BOOST_GLOBAL_FIXTURE(NeedsBpf);

BOOST_AUTO_TEST_CASE(replies_come_in_the_order_of_the_calls_and_are_announced) {
    std::atomic<int> announced = 0;
    auto object = loaded("nonsense");
    auto runner = run_on_thread(object, [&] { announced++; });
    for (uint32_t i = 0; i < 100; i++) BOOST_TEST(runner->post(fault_of(i)));
    std::vector<PolicyReply> replies;
    BOOST_TEST(comes_true([&] {
        runner->take_replies(replies);
        return replies.size() == 100;
    }));
    for (uint32_t i = 0; i < 100; i++) {
        BOOST_TEST(replies[i].decisions.size() == 6u);
        BOOST_TEST(replies[i].decisions[0].kind == TIERD_READ_AHEAD);  // the greatest priority
        BOOST_TEST(replies[i].decisions[0].extent == i);
    }
    BOOST_TEST(announced > 0);
    BOOST_TEST(runner->objection() == "");
}

BOOST_AUTO_TEST_CASE(both_runners_give_the_same_replies) {
    auto at_once = run_at_once(loaded("nonsense"));
    auto threaded = run_on_thread(loaded("nonsense"), [] {});
    std::vector<PolicyReply> ours, theirs;
    for (uint32_t i = 0; i < 20; i++) {
        at_once->post(fault_of(i));
        threaded->post(fault_of(i));
    }
    at_once->take_replies(ours);
    BOOST_TEST(comes_true([&] {
        threaded->take_replies(theirs);
        return theirs.size() == ours.size();
    }));
    for (size_t i = 0; i < ours.size(); i++)
        BOOST_TEST(std::ranges::equal(ours[i].decisions, theirs[i].decisions, [](auto& a, auto& b) {
            return a.kind == b.kind && a.extent == b.extent && a.tier == b.tier && a.priority == b.priority;
        }));
}

BOOST_AUTO_TEST_CASE(a_program_that_loops_is_objected_to_while_it_runs_and_holds_nobody_up) {
    auto runner = run_on_thread(loaded("loops_long", {{"rounds", "300"}}), [] {});
    runner->post({.hook = Hook::epoch});
    BOOST_TEST(comes_true([&] { return !runner->objection().empty(); }));
    for (int i = 0; i < 2000; i++) runner->post(fault_of(1));
    BOOST_TEST(runner->stats().calls_dropped > 0u);
    BOOST_TEST(runner->post({.hook = Hook::model_close}));  // news of models is never dropped
    runner.reset();                                         // and returns, though the program runs
}

BOOST_AUTO_TEST_CASE(failing_time_after_time_is_an_objection_once_is_not) {
    auto runner = run_at_once(loaded("faulty"));
    for (int i = 0; i < 15; i++) runner->post(fault_of(1));
    BOOST_TEST(runner->objection() == "");
    runner->post(fault_of(1));
    BOOST_TEST(runner->objection().find("tierd/fault returned -1") == 0u, runner->objection());
    BOOST_TEST(runner->stats().hooks[static_cast<size_t>(Hook::fault)].faults == 16u);
}

BOOST_AUTO_TEST_CASE(percentiles_are_within_an_eighth) {
    CallHistogram histogram;
    BOOST_TEST(histogram.percentile_ns(50) == 0u);
    for (uint64_t ns = 1; ns <= 1000; ns++) histogram.add(ns * 100);
    BOOST_TEST(histogram.percentile_ns(50) >= 50'000u);
    BOOST_TEST(histogram.percentile_ns(50) <= 50'000u * 9 / 8);
    BOOST_TEST(histogram.percentile_ns(99) >= 99'000u);
    BOOST_TEST(histogram.percentile_ns(100) == 100'000u);
}
