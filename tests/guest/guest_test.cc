// guest_test.cc - what needs a machine with several memory nodes. Runs inside the guest of scripts/guest.sh only.
#define BOOST_TEST_MODULE guest
#include <unistd.h>

#include <boost/test/tree/observer.hpp>
#include <boost/test/unit_test.hpp>
#include <condition_variable>
#include <iostream>
#include <mutex>
#include <thread>

#include "tests/guest/machine.h"

using namespace tierd::guest;

namespace {

// A case that takes longer than this ends the program, and says first what every thread in the machine is doing.
constexpr std::chrono::seconds kCaseLimit(180);

class CaseLimit final : public boost::unit_test::test_observer {
  public:
    CaseLimit() : thread_([this] { watch(); }) { boost::unit_test::framework::register_observer(*this); }
    ~CaseLimit() {
        boost::unit_test::framework::deregister_observer(*this);
        set("");
        thread_.join();
    }
    void test_unit_start(const boost::unit_test::test_unit& unit) override { set(unit.p_name.get()); }

  private:
    void set(const std::string& name) {
        std::lock_guard lock(mutex_);
        name_ = name;
        changes_++;
        changed_.notify_one();
    }
    void watch() {
        std::unique_lock lock(mutex_);
        while (changes_ == 0 || !name_.empty()) {
            auto seen = changes_;
            if (changed_.wait_for(lock, kCaseLimit, [&] { return changes_ != seen; }) || seen == 0) continue;
            std::cerr << name_ << " took longer than " << kCaseLimit.count() << " s:" << std::endl;
            show_stacks();
            ::_exit(3);
        }
    }

    std::mutex mutex_;
    std::condition_variable changed_;
    std::string name_;
    uint64_t changes_ = 0;
    std::thread thread_;  // last: it uses everything above
};

}  // namespace

BOOST_TEST_GLOBAL_FIXTURE(CaseLimit);

BOOST_AUTO_TEST_CASE(memory_plugged_into_an_empty_node_appears_and_goes_again) {
    BOOST_TEST(online_nodes() == (std::vector{0, 1, 2}), boost::test_tools::per_element());
    plug_memory("late", 3, 256);
    BOOST_TEST(online_nodes() == (std::vector{0, 1, 2, 3}), boost::test_tools::per_element());
    pull_memory("late", 3);
    BOOST_TEST(online_nodes() == (std::vector{0, 1, 2}), boost::test_tools::per_element());
}
