// lease_table_test.cc - what a policy sees of GPUs and leases, and what becomes of its marks.
#define BOOST_TEST_MODULE lease_table
#include "lib/engine/lease_table.h"

#include <boost/test/unit_test.hpp>

#include "tests/unit/bpf_scene.h"

using namespace tierd;

namespace {

LeaseStatus lease_of(uint64_t number, const std::string& command, uint32_t position = 0) {
    LeaseStatus lease{.number = number, .holder = {.pid = 100, .uid = 7, .command = command, .cgroup = 9}};
    lease.lease_bytes = 10 * number;
    lease.position = position;
    return lease;
}

struct Scene : BpfScene {
    LeaseTable table;
    std::vector<tierd_lease_mark> marks{TIERD_MAX_LEASES};

    void publish(std::vector<LeaseStatus> leases) {
        table.publish({{.name = "gpu-01020304",
                        .capacity_bytes = 100,
                        .leased_bytes = 60,
                        .leases = std::move(leases)}},
                      *tables, marks);
    }
    const tierd_lease& row(size_t slot) const { return tables->leases()[slot]; }
};

}  // namespace

BOOST_GLOBAL_FIXTURE(NeedsBpf);

BOOST_FIXTURE_TEST_SUITE(lease_table, Scene)

BOOST_AUTO_TEST_CASE(gpus_and_leases_are_shown_as_they_are) {
    publish({lease_of(1, "batch"), lease_of(2, "a-name-that-is-too-long", 1)});
    const tierd_gpu& gpu = tables->gpus()[0];
    BOOST_TEST(std::string(gpu.name) == "gpu-01020304");
    BOOST_TEST(gpu.capacity_bytes == 100u);
    BOOST_TEST(gpu.leased_bytes == 60u);
    BOOST_TEST(gpu.leases == 2u);
    BOOST_TEST(gpu.waiting == 1u);
    BOOST_TEST(table.gpus() == 1u);
    BOOST_TEST(table.leases() == 2u);
    BOOST_TEST(row(0).lease_bytes == 10u);
    BOOST_TEST(row(0).uid == 7u);
    BOOST_TEST(row(0).cgroup == 9u);
    BOOST_TEST(std::string(row(1).command) == "a-name-that-is-");
    BOOST_TEST(row(1).position == 1u);
}

BOOST_AUTO_TEST_CASE(a_lease_keeps_its_slot_and_a_new_one_starts_without_a_mark) {
    publish({lease_of(1, "a"), lease_of(2, "b")});
    marks[0].priority = 5;
    marks[1].priority = 6;
    publish({lease_of(2, "b"), lease_of(3, "c")});
    BOOST_TEST(std::string(row(0).command) == "c");
    BOOST_TEST(std::string(row(1).command) == "b");
    BOOST_TEST((table.priorities(marks) == std::map<uint64_t, uint64_t>{{2, 6}}));
    publish({lease_of(3, "c")});
    BOOST_TEST(table.leases() == 1u);
    BOOST_TEST(row(1).pid == 0u);
    marks[1].priority = 8;  // of nobody
    BOOST_TEST(table.priorities(marks).empty());
}

BOOST_AUTO_TEST_CASE(leases_beyond_the_table_are_worth_nothing) {
    std::vector<LeaseStatus> many;
    for (uint64_t number = 1; number <= TIERD_MAX_LEASES + 5; number++) many.push_back(lease_of(number, "x"));
    publish(many);
    for (tierd_lease_mark& mark : marks) mark.priority = 1;
    BOOST_TEST(table.priorities(marks).size() == size_t{TIERD_MAX_LEASES});
}

BOOST_AUTO_TEST_CASE(the_policy_gpus_ranks_by_the_names_of_processes) {
    auto object = loaded(shipped("gpus"), {{"first", "vllm*"}, {"last", "batch"}});
    publish({lease_of(1, "batch"), lease_of(2, "vllm-worker"), lease_of(3, "python3")});
    tierd_call call{};
    call.leases = table.leases();
    PolicyAnswer answer;
    CallOutcome outcome = object->run(Hook::contend, call, answer);
    BOOST_TEST(outcome.failure == 0);
    BOOST_TEST((table.priorities(object->lease_marks()) == std::map<uint64_t, uint64_t>{{2, 2}, {3, 1}}));
}

BOOST_AUTO_TEST_SUITE_END()
