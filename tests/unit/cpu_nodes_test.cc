// Which node a processor sits on, and where a thread ran: from trees like those of /sys and /proc, and from the real ones.
#define BOOST_TEST_MODULE cpu_nodes
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <boost/test/unit_test.hpp>

#include "lib/base/clock.h"
#include "lib/sample/cpu_nodes.h"
#include "lib/sample/hot.h"
#include "tests/unit/sysfs_tree.h"

namespace tierd::test {

namespace {

// Fields 3 to 52 of /proc/PID/stat; the 39th is the processor.
std::string stat_line(const std::string& name, int processor) {
    std::string line = "7 (" + name + ") R";
    for (int field = 4; field <= 52; field++) line += " " + std::to_string(field == 39 ? processor : field);
    return line;
}

}  // namespace

BOOST_AUTO_TEST_CASE(processors_are_on_the_nodes_that_list_them_and_nodes_without_any_count_for_nothing) {
    SysfsTree sys;
    sys.add("devices/system/node/node0/cpulist|0-1,4");
    sys.add("devices/system/node/node2/cpulist|2-3");
    sys.add("devices/system/node/node3/cpulist|");  // CXL memory
    sys.add("devices/system/node/possible|0-3");
    CpuNodes cpus = CpuNodes::read(sys.root());
    BOOST_TEST(cpus.node_of(0) == 0);
    BOOST_TEST(cpus.node_of(4) == 0);
    BOOST_TEST(cpus.node_of(3) == 2);
    BOOST_TEST(cpus.node_of(5) == kNoNode);
    BOOST_TEST(cpus.node_of(UINT32_MAX) == kNoNode);
    BOOST_TEST(cpus.only_node() == kNoNode);
}

BOOST_AUTO_TEST_CASE(a_machine_without_numa_is_one_node) {
    SysfsTree sys;
    CpuNodes cpus = CpuNodes::read(sys.root());
    BOOST_TEST(cpus.only_node() == 0);
    ThreadNodes threads(cpus, sys.root());
    BOOST_TEST(threads.node_of(1, 1, 1) == 0);
}

BOOST_AUTO_TEST_CASE(a_thread_is_where_it_ran_last_and_is_looked_at_again_after_a_while) {
    SysfsTree tree;
    tree.add("devices/system/node/node0/cpulist|0");
    tree.add("devices/system/node/node1/cpulist|1");
    tree.add("7/task/8/stat|" + stat_line("a) R 1 (", 1));  // a name that looks like more fields
    tree.add("7/task/9/stat|7 (broken");
    ThreadNodes threads(CpuNodes::read(tree.root()), tree.root());
    uint64_t now = kNsPerSecond;
    BOOST_TEST(threads.node_of(7, 8, now) == 1);
    BOOST_TEST(threads.node_of(7, 9, now) == kNoNode);
    BOOST_TEST(threads.node_of(7, 10, now) == kNoNode);
    BOOST_TEST(threads.node_of(7, 0, now) == kNoNode);  // a kernel that doesn't tell the thread
    tree.add("7/task/8/stat|" + stat_line("a", 0));
    BOOST_TEST(threads.node_of(7, 8, now + 1) == 1);
    BOOST_TEST(threads.node_of(7, 8, now + ThreadNodes::kKeepNs) == 0);
}

BOOST_AUTO_TEST_CASE(this_thread_runs_on_a_node_of_this_machine) {
    unsigned cpu = 0, node = 0;
    BOOST_REQUIRE(::syscall(SYS_getcpu, &cpu, &node, nullptr) == 0);
    cpu_set_t here;
    CPU_ZERO(&here);
    CPU_SET(cpu, &here);
    BOOST_REQUIRE(::sched_setaffinity(0, sizeof here, &here) == 0);
    BOOST_REQUIRE(::syscall(SYS_getcpu, &cpu, &node, nullptr) == 0);
    ThreadNodes threads(CpuNodes::read());
    auto tid = static_cast<uint32_t>(::gettid());
    BOOST_TEST(threads.node_of(static_cast<uint32_t>(::getpid()), tid, monotonic_ns()) ==
               static_cast<int>(node));
}

BOOST_AUTO_TEST_CASE(a_thread_that_moves_between_nodes_has_a_row_for_each) {
    Readers readers;
    for (int i = 0; i < 3; i++) readers.add_thread("m", 7, 8, 1, 1);
    readers.add_thread("m", 7, 8, 0, 1);
    readers.add("m", {"engine", 64}, 7, 9, 1, 1);
    auto rows = readers.rows(HotBy::thread);
    BOOST_REQUIRE(rows.size() == 3u);
    BOOST_TEST(rows[0].name == "7/8");
    BOOST_TEST(rows[0].node == 1);
    BOOST_TEST(rows[0].samples == 3u);
    auto functions = readers.rows(HotBy::function);
    BOOST_REQUIRE(functions.size() == 1u);
    BOOST_TEST(functions[0].offset_bytes == 64u);
}

}  // namespace tierd::test
