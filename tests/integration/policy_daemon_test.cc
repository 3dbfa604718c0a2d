// eBPF policies in a running tierd: they decide, they are replaced, they misbehave and have to go; and whatever they do, the
// readers see the file's bytes and the budget holds.
#define BOOST_TEST_MODULE policy_daemon
#include <boost/test/unit_test.hpp>
#include <csignal>
#include <optional>

#include "lib/base/bytes.h"
#include "tests/integration/policy_request.h"

using namespace tierd;
using namespace tierd::itest;

namespace {

constexpr uint64_t kSeed = 31;
constexpr uint64_t kBytes = 96 * kMiB;
constexpr uint64_t kBudgetBytes = 48 * kMiB;

// The count of that name in a list of {name, count}; 0 where it is missing.
uint64_t count_of(const Json& list, const std::string& name) {
    for (const Json& row : list)
        if (row.at("name") == name) return row.at("count");
    return 0;
}

Json hook_of(const Json& policy, const std::string& hook) {
    for (const Json& row : policy.at("hooks"))
        if (row.at("hook") == hook) return row;
    return nullptr;
}

struct Scene {
    Scene() {
        make_file(path(), kSeed, kBytes);
        daemon.emplace(dir, DaemonPlan{.budget = std::to_string(kBudgetBytes)});
    }
    std::string path() const { return dir.file("model.weights"); }

    Json policy() const { return daemon->get("/v1/policy"); }
    Daemon::Reply load(const std::string& name, const Json& knobs = Json::object()) const {
        return daemon->ask("PUT", "/v1/policy", load_request(name, "/tests/policies/", knobs));
    }
    void loads(const std::string& name, const Json& knobs = Json::object()) const {
        auto reply = load(name, knobs);
        BOOST_REQUIRE_MESSAGE(reply.status == 200, reply.body.dump());
        BOOST_TEST(reply.body["name"] == name);
    }
    ReaderProcess& reader() {
        if (!reader_) {
            reader_.emplace(dir, ReaderPlan{.socket = daemon->socket()});
            reader_->call("map path=" + path());
        }
        return *reader_;
    }
    // A pass over the file that must show its bytes, through tierd.
    void reads_right(const std::string& how = "order=random block=65536 threads=4") {
        const Json told = reader().call("verify seed=" + std::to_string(kSeed) + " " + how);
        BOOST_TEST(all_right(told), told.dump());
        BOOST_TEST(is_all(reader().call("backing"), "arena"));
    }
    bool is_ejected(const std::string& name) {
        return comes_true([&] {
            const Json now = policy();
            return !now["loaded"].get<bool>() && now["ejected"] == name;
        });
    }

    WorkDir dir;
    std::optional<Daemon> daemon;
    std::optional<ReaderProcess> reader_;
};

}  // namespace

BOOST_GLOBAL_FIXTURE(NeedsBpf);

BOOST_FIXTURE_TEST_CASE(a_loaded_policy_decides_sees_touches_and_costs_little, Scene) {
    auto reply = daemon->ask("PUT", "/v1/policy", load_request("fifo", "/policies/"));
    BOOST_REQUIRE_MESSAGE(reply.status == 200, reply.body.dump());
    ArenaSampler sampler(daemon->pid());
    reads_right();
    reads_right("threads=4");
    sampler.stop();
    BOOST_TEST(sampler.peak_bytes() <= kBudgetBytes);
    const Json now = policy();
    BOOST_TEST(now["name"] == "fifo");
    BOOST_TEST(now["rows"].get<uint64_t>() >= kBytes / (2 * kMiB));
    const Json hook = hook_of(now, "fault");
    BOOST_TEST(hook["calls"].get<uint64_t>() >= kBytes / (2 * kMiB));
    BOOST_TEST(hook["p50_ns"].get<uint64_t>() > 0u);
    BOOST_TEST(hook["p99_ns"].get<uint64_t>() <= hook["budget_ns"].get<uint64_t>());
    BOOST_TEST(hook["faults"] == 0u);
    BOOST_TEST(daemon->counter("evictions") > 0u);
    BOOST_TEST(daemon->status()["policy"] == "fifo");
    BOOST_TEST(daemon->ask("DELETE", "/v1/policy").body["name"] == "auto");
    BOOST_TEST(daemon->ask("DELETE", "/v1/policy").status == 404);
    reads_right();
}

BOOST_FIXTURE_TEST_CASE(every_policy_that_ships_serves_right_bytes_within_the_budget, Scene) {
    for (const char* name : {"fifo", "lru", "sweep", "experts", "hotness", "admission", "fair", "rules"}) {
        auto reply = daemon->ask("PUT", "/v1/policy", load_request(name, "/policies/"));
        BOOST_REQUIRE_MESSAGE(reply.status == 200, name << ": " << reply.body.dump());
        ArenaSampler sampler(daemon->pid());
        const uint64_t evictions_before = daemon->counter("evictions");
        reads_right();
        reads_right("threads=1");
        reads_right("threads=1");
        sampler.stop();
        BOOST_TEST(sampler.peak_bytes() <= kBudgetBytes, name);
        BOOST_TEST(daemon->counter("evictions") > evictions_before, name);
        const Json now = policy();
        BOOST_TEST(now["loaded"] == true, name << ": " << now.dump());
        BOOST_TEST(now["name"] == name);
        uint64_t calls = 0, faults = 0;
        for (const Json& hook : now["hooks"]) {
            calls += hook["calls"].get<uint64_t>();
            faults += hook["faults"].get<uint64_t>();
        }
        BOOST_TEST(calls > 0u, name);
        BOOST_TEST(faults == 0u, name);
    }
}

BOOST_FIXTURE_TEST_CASE(what_a_policy_holds_stays_while_the_rest_comes_and_goes, Scene) {
    loads("holds_front", {{"held", 6}});
    reads_right("threads=1");
    for (int pass = 0; pass < 3; pass++) reads_right();
    // Reading the held part again waits for no disk: it was never evicted.
    const uint64_t before = daemon->counter("faults_missing");
    reads_right("threads=1 length=" + std::to_string(6 * 2 * kMiB));
    BOOST_TEST(daemon->counter("faults_missing") == before);
    BOOST_TEST(policy()["knobs"][0]["value"] == "6");
}

BOOST_FIXTURE_TEST_CASE(a_policy_that_only_admits_leaves_the_rest_to_the_built_in_one, Scene) {
    loads("admits_none");
    reads_right("threads=1");
    reads_right("threads=1");
    const Json now = policy();
    BOOST_TEST(count_of(now["accepted"], "read ahead") == 0u);
    BOOST_TEST(count_of(now["refused"], "not admitted") > 0u);
    BOOST_TEST(daemon->counter("fills_read_ahead") == 0u);
    BOOST_TEST(daemon->counter("evictions") > 0u);
    BOOST_TEST(daemon->ask("DELETE", "/v1/policy").status == 200);
    reads_right("threads=1");
    BOOST_TEST(daemon->counter("fills_read_ahead") > 0u);
}

BOOST_FIXTURE_TEST_CASE(bad_objects_are_refused_and_what_decided_goes_on, Scene) {
    loads("holds_front");
    for (const char* name :
         {"write_row", "write_model", "write_tier", "write_gpu", "write_lease", "helper", "kernel_function",
          "no_null_check", "endless", "other_abi", "no_licence", "no_abi", "unknown_hook", "no_hook",
          "small_map", "huge_map", "ring_map", "pinned_map", "refuses_init"}) {
        auto reply = load(name);
        BOOST_TEST(reply.status == 400, name << ": " << reply.body.dump());
        BOOST_TEST(reply.body["error"]["message"] != "");
    }
    auto whole = read_object(build_dir() + "/tests/policies/holds_front.bpf.o");
    for (size_t bytes :
         {size_t{0}, size_t{1}, size_t{64}, whole->bytes.size() / 2, whole->bytes.size() - 1}) {
        const Json cut = {{"name", "cut"}, {"object", to_base64(whole->bytes.substr(0, bytes))}};
        BOOST_TEST(daemon->ask("PUT", "/v1/policy", cut.dump()).status == 400);
    }
    BOOST_TEST(load("holds_front", {{"helt", 1}}).status == 400);
    BOOST_TEST(policy()["name"] == "holds_front");
    BOOST_TEST(policy()["loads"] == 1u);
    reads_right();
}

BOOST_FIXTURE_TEST_CASE(nonsense_is_refused_reason_by_reason_and_harms_nobody, Scene) {
    BOOST_TEST(daemon->ask("POST", "/v1/models/model.weights/pin").status == 404);
    loads("nonsense");
    ArenaSampler sampler(daemon->pid());
    for (int pass = 0; pass < 2; pass++) reads_right();
    sampler.stop();
    BOOST_TEST(sampler.peak_bytes() <= kBudgetBytes);
    const Json now = policy();
    BOOST_TEST(now["name"] == "nonsense", now.dump());
    for (const char* reason : {"unknown extent", "no such tier", "unknown kind", "not resident"})
        BOOST_TEST(count_of(now["refused"], reason) > 0u, reason << " in " << now.dump());
}

BOOST_FIXTURE_TEST_CASE(pinned_extents_stay_whatever_a_policy_proposes, Scene) {
    reads_right("threads=1 length=" + std::to_string(16 * kMiB));
    BOOST_TEST(daemon->ask("POST", "/v1/models/model.weights/evict").status == 200);
    BOOST_TEST(daemon->ask("PUT", "/v1/budget", R"({"bytes":"200MiB"})").status == 200);
    BOOST_TEST(daemon->ask("POST", "/v1/models/model.weights/pin").status == 200);
    reads_right("threads=4");
    loads("nonsense");
    BOOST_TEST(comes_true([&] { return count_of(policy()["refused"], "pinned") > 0; }));
    BOOST_TEST(
        comes_true([&] { return daemon->get("/v1/models")["models"][0]["resident_bytes"] == kBytes; }));
    reads_right();
}

BOOST_FIXTURE_TEST_CASE(a_policy_that_loops_for_seconds_is_ejected_and_nobody_waits_for_it, Scene) {
    loads("loops_long");
    BOOST_TEST(is_ejected("loops_long"));
    const Json now = policy();
    BOOST_TEST(now["name"] == "auto");
    BOOST_TEST(now["ejections"] == 1u);
    BOOST_TEST(now["ejected_reason"].get<std::string>().find("tierd/epoch") == 0u, now["ejected_reason"]);
    reads_right();  // while it still runs
    // Another may come at once.
    loads("holds_front");
    reads_right();
    BOOST_TEST(policy()["name"] == "holds_front");
}

BOOST_FIXTURE_TEST_CASE(ten_million_moves_are_cut_to_an_answers_room, Scene) {
    loads("many_moves");
    reads_right();
    // Not a decision of it could be carried out; over its budget it may be by now, or not, as the machine is fast.
    const Json now = policy();
    BOOST_TEST((now["name"] == "many_moves" || now["ejected"] == "many_moves"), now.dump());
    BOOST_TEST(count_of(now["accepted"], "move") == 0u);
}

BOOST_FIXTURE_TEST_CASE(counts_that_lie_are_not_believed, Scene) {
    loads("liar");
    BOOST_TEST(comes_true([&] { return hook_of(policy(), "epoch")["calls"].get<uint64_t>() >= 3; }));
    reads_right();
    BOOST_TEST(policy()["name"] == "liar");
}

BOOST_FIXTURE_TEST_CASE(a_policy_that_fails_time_after_time_is_ejected_with_the_reason, Scene) {
    for (const char* name : {"faulty", "reads_beyond"}) {
        loads(name);
        reads_right();
        BOOST_TEST(is_ejected(name), name << ": " << policy().dump());
        BOOST_TEST(policy()["ejected_reason"].get<std::string>().find("tierd/fault") == 0u);
    }
    reads_right();
}

BOOST_AUTO_TEST_CASE(a_table_that_outgrows_what_the_policy_sees_is_shared_anew) {
    WorkDir dir;
    make_file(dir.file("model.weights"), kSeed, 16 * kMiB);
    make_island_file(dir.file("large.weights"), kSeed, 5 * kGiB, {5 * kGiB - kMiB}, kMiB);
    Daemon daemon(dir, {.budget = "48MiB", .options = {"--extent", "64KiB"}});
    BOOST_TEST(daemon.ask("PUT", "/v1/policy", load_request("fifo", "/policies/")).status == 200);
    ReaderProcess reader(dir, {.socket = daemon.socket()});
    const std::string seed = "seed=" + std::to_string(kSeed);
    reader.call("map path=" + dir.file("model.weights"));
    BOOST_TEST(all_right(reader.call("verify " + seed)));
    reader.call("map path=" + dir.file("large.weights"));
    BOOST_TEST(comes_true([&] { return daemon.get("/v1/policy")["reloads"] == 1u; }));
    const Json now = daemon.get("/v1/policy");
    BOOST_TEST(now["name"] == "fifo");
    BOOST_TEST(now["rows"].get<uint64_t>() > 64 * 1024u);
    BOOST_TEST(now["room"].get<uint64_t>() >= now["rows"].get<uint64_t>());
    BOOST_TEST(all_right(reader.call("verify map=1 " + seed + " from=" + std::to_string(5 * kGiB - kMiB))));
    BOOST_TEST(all_right(reader.call("verify threads=4 " + seed)));
}

BOOST_AUTO_TEST_CASE(the_configuration_may_name_a_policy_and_a_bad_one_is_a_note) {
    WorkDir dir;
    const std::string objects = build_dir() + "/tests/policies/";
    auto with = [&](const std::string& object) {
        return DaemonPlan{.config = "[policy]\nname = \"lru\"\nobject = \"" + objects + object +
                                    ".bpf.o\"\nknobs = [\"held=3\"]\n"};
    };
    {
        Daemon daemon(dir, with("holds_front"));
        const Json now = daemon.get("/v1/policy");
        BOOST_TEST(now["name"] == "holds_front");
        BOOST_TEST(now["built_in"] == "lru");
        BOOST_TEST(now["knobs"][0]["value"] == "3");
    }
    Daemon daemon(dir, with("write_row"));
    BOOST_TEST(daemon.get("/v1/policy")["name"] == "lru");
    BOOST_TEST(daemon.status()["notes"].dump().find("set the knob held") != std::string::npos);
}

BOOST_FIXTURE_TEST_CASE(policies_are_replaced_a_thousand_times_under_eight_readers, Scene) {
    // A tierd of another build is watched by a sanitizer, and takes many times as long to load one.
    const int replacements = programs_dir() == build_dir() ? 1000 : 200;
    std::vector<std::unique_ptr<ReaderProcess>> readers;
    ArenaSampler sampler(daemon->pid());
    for (int i = 0; i < 8; i++) {
        readers.push_back(std::make_unique<ReaderProcess>(dir, ReaderPlan{.socket = daemon->socket()}));
        readers.back()->call("map path=" + path());
        readers.back()->call("verify until=stop order=random block=65536 seed=" + std::to_string(kSeed));
    }
    std::vector<std::string> requests{
        load_request("fifo", "/policies/"), load_request("holds_front", "/tests/policies/"),
        load_request("admits_none", "/tests/policies/"), load_request("all_hooks", "/tests/policies/")};
    int replaced = 0;
    for (int i = 0; i < replacements; i++)
        replaced += daemon->ask("PUT", "/v1/policy", requests[size_t(i) % requests.size()]).status == 200;
    for (auto& reader : readers) {
        const Json told = reader->call("stop");
        BOOST_TEST(all_right(told), told.dump());
        BOOST_TEST(told["bytes"].get<uint64_t>() > 0u);
        BOOST_TEST(is_all(reader->call("backing"), "arena"));
    }
    sampler.stop();
    BOOST_TEST(replaced == replacements);
    BOOST_TEST(sampler.peak_bytes() <= kBudgetBytes);
    const Json now = policy();
    BOOST_TEST(now["loads"] == replacements);
    BOOST_TEST(now["ejections"] == 0u, now.dump());
}
