// Where a policy's programs run: nobody waits for one, and one that goes too far is objected to.
#define BOOST_TEST_MODULE policy_runner
#include "lib/policy/policy_runner.h"

#include <algorithm>
#include <atomic>
#include <boost/test/unit_test.hpp>
#include <cstdlib>
#include <iostream>
#include <numeric>
#include <random>
#include <thread>

#include "lib/policy/row_links.h"

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

std::shared_ptr<BpfObject> load_over(const std::string& path, std::vector<Knob> knobs,
                                     std::shared_ptr<BpfTables> tables) {
    const char* told = std::getenv("TIERD_BUILD_DIR");
    auto file = read_object((told ? told : "build") + path + ".bpf.o");
    BOOST_REQUIRE_MESSAGE(file.has_value(), (file ? "" : file.error().text()));
    auto object = BpfObject::load(*file, knobs, std::move(tables));
    BOOST_REQUIRE_MESSAGE(object.has_value(), (object ? "" : object.error().text()));
    return *object;
}

std::shared_ptr<BpfObject> loaded(const std::string& name, std::vector<Knob> knobs = {}) {
    return load_over("/tests/policies/" + name, std::move(knobs), BpfTables::make(4096).value());
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

// A policy with a machine of its own: a mixture of four layers, half of it in memory, and two tiers. Each call is answered
// before the machine goes on, so what the programs see is determined.
class Staged {
  public:
    static constexpr uint32_t kRows = 256;

    Staged(const std::string& name, bool on_thread)
        : tables_(BpfTables::make(4096).value()), object_(load_over("/policies/" + name, {}, tables_)) {
        set_up();
        runner_ = on_thread ? run_on_thread(object_, [] {}) : run_at_once(object_);
    }

    // Touches the extent, which takes the place of another where it was absent.
    void touch(uint32_t extent, uint64_t now_ns) {
        tierd_extent& row = tables_->extents()[extent];
        bool missing = row.state == TIERD_EXTENT_ABSENT;
        if (missing) {
            tables_->extents()[(extent + kRows / 2) % kRows].state = TIERD_EXTENT_ABSENT;
            row.state = TIERD_EXTENT_RESIDENT;
            row.tier = 1 + extent / 2 % 2;
        }
        row.heat += 1u << 16;
        row.last_touch_ns = now_ns;
        PolicyCall call = at(Hook::fault, now_ns);
        call.arguments.extent = extent;
        call.arguments.touch = missing ? TIERD_TOUCH_MISSING : TIERD_TOUCH_MINOR;
        run(std::move(call));
    }
    void call(Hook hook, uint64_t now_ns) { run(at(hook, now_ns)); }
    // All that was decided so far, in order; on a thread the last of it may be on its way.
    const std::vector<tierd_decision>& decided() {
        std::vector<PolicyReply> replies;
        runner_->take_replies(replies);
        for (const PolicyReply& reply : replies)
            decided_.insert(decided_.end(), reply.decisions.begin(), reply.decisions.end());
        return decided_;
    }
    std::span<tierd_extent_ctx> ctxs() { return object_->ctxs().first(kRows); }

  private:
    void set_up() {
        for (uint32_t i = 0; i < kRows; i++) {
            tierd_extent& row = tables_->extents()[i];
            bool expert = i % 8 != 0;
            row.bytes = 2u << 20;
            row.layer = static_cast<uint16_t>(i / 64);
            row.expert = expert ? static_cast<uint16_t>(i % 64 / 3) : TIERD_NO_EXPERT;
            row.role = expert ? TIERD_ROLE_EXPERT : TIERD_ROLE_ATTENTION;
            row.state = i % 2 ? TIERD_EXTENT_RESIDENT : TIERD_EXTENT_ABSENT;
            row.tier = i % 2 ? 1 + i / 2 % 2 : TIERD_NO_TIER;
        }
        std::vector<uint32_t> order(kRows);
        std::iota(order.begin(), order.end(), 0u);
        link_rows(tables_->extents(), 0, kRows, order);
        tables_->models()[0] = {.first_extent = 0,
                                .extent_count = kRows,
                                .bytes = uint64_t{kRows} << 21,
                                .resident_bytes = uint64_t{kRows} << 20,
                                .sessions = 1,
                                .experts = 22,
                                .layers = 4};
        tables_->tiers()[1] = {.capacity_bytes = 80ull << 21,
                               .used_bytes = 76ull << 21,
                               .latency_ns = 100,
                               .kind = TIERD_KIND_DRAM,
                               .rank = 0};
        tables_->tiers()[2] = {.capacity_bytes = 80ull << 21,
                               .used_bytes = 60ull << 21,
                               .latency_ns = 300,
                               .kind = TIERD_KIND_CXL,
                               .rank = 1};
    }
    static PolicyCall at(Hook hook, uint64_t now_ns) {
        PolicyCall call{.hook = hook};
        call.arguments = {
            .now_ns = now_ns, .epoch = now_ns / 100'000'000, .extents = kRows, .models = 1, .tiers = 2};
        return call;
    }
    // Returns when the program has ended, so that the machine may change.
    void run(PolicyCall call) {
        if (!object_->has(call.hook)) return;
        auto calls_made = [&, hook = static_cast<size_t>(call.hook)] {
            return runner_->stats().hooks[hook].cpu.count();
        };
        const uint64_t before = calls_made();
        BOOST_REQUIRE(runner_->post(std::move(call)));
        BOOST_REQUIRE(comes_true([&] { return calls_made() > before; }));
    }

    std::shared_ptr<BpfTables> tables_;
    std::shared_ptr<BpfObject> object_;
    std::unique_ptr<PolicyRunner> runner_;
    std::vector<tierd_decision> decided_;
};

bool same(const tierd_decision& one, const tierd_decision& other) {
    return one.kind == other.kind && one.extent == other.extent && one.tier == other.tier &&
           one.priority == other.priority;
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
    BOOST_TEST(runner->exit_reason() == "");
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
        BOOST_TEST(std::ranges::equal(ours[i].decisions, theirs[i].decisions, same));
}

BOOST_AUTO_TEST_CASE(every_policy_that_ships_decides_alike_in_a_replay_and_on_the_daemons_thread) {
    size_t decided = 0;
    for (const char* name : {"fifo", "lru", "sweep", "experts", "hotness", "admission", "fair", "rules"}) {
        Staged replayed(name, false), served(name, true);
        std::mt19937 random(1);
        for (int step = 0; step < 400; step++) {
            const uint64_t now_ns = 1'000'000'000 + uint64_t(step) * 10'000'000;
            const uint32_t extent = (step % 3 ? static_cast<uint32_t>(step) : random()) % Staged::kRows;
            for (Staged* stage : {&replayed, &served}) {
                if (step == 0) stage->call(Hook::model_open, now_ns);
                stage->touch(extent, now_ns);
                if (step % 10 == 0) stage->call(Hook::epoch, now_ns);
            }
        }
        BOOST_TEST(comes_true([&] { return served.decided().size() >= replayed.decided().size(); }), name);
        BOOST_TEST(std::ranges::equal(replayed.decided(), served.decided(), same), name);
        BOOST_TEST(std::ranges::equal(replayed.ctxs(), served.ctxs(),
                                      [](const tierd_extent_ctx& one, const tierd_extent_ctx& other) {
                                          return one.score == other.score && one.user[0] == other.user[0] &&
                                                 one.user[1] == other.user[1];
                                      }),
                   name);
        std::cout << name << ": " << replayed.decided().size() << " decisions\n";
        decided += replayed.decided().size();
    }
    BOOST_TEST(decided > 100u);  // agreeing on nothing would prove nothing
}

BOOST_AUTO_TEST_CASE(a_program_that_loops_is_objected_to_while_it_runs_and_holds_nobody_up) {
    auto runner = run_on_thread(loaded("loops_long"), [] {});
    runner->post({.hook = Hook::epoch});
    BOOST_TEST(comes_true([&] { return !runner->exit_reason().empty(); }));
    for (int i = 0; i < 2000; i++) runner->post(fault_of(1));
    BOOST_TEST(runner->stats().calls_dropped > 0u);
    BOOST_TEST(runner->post({.hook = Hook::model_close}));  // news of models is never dropped
    runner.reset();                                         // and returns, though the program runs
}

BOOST_AUTO_TEST_CASE(failing_time_after_time_is_an_objection_once_is_not) {
    auto runner = run_at_once(loaded("faulty"));
    for (int i = 0; i < 15; i++) runner->post(fault_of(1));
    BOOST_TEST(runner->exit_reason() == "");
    runner->post(fault_of(1));
    BOOST_TEST(runner->exit_reason().find("tierd/fault returned -1") == 0u, runner->exit_reason());
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
