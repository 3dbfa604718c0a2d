// Rules in the daemon, with real readers: a pin holds, a cap caps, tenants are told apart by their user; and whatever the rules
// say, the budget holds and the bytes are right.
#define BOOST_TEST_MODULE rules
#include <unistd.h>

#include <boost/test/unit_test.hpp>
#include <fstream>

#include "lib/base/bytes.h"
#include "tests/integration/harness.h"

using namespace tierd;
using namespace tierd::itest;

namespace {

constexpr uint64_t kHotBytes = 24 * kMiB, kColdBytes = 64 * kMiB, kBudgetBytes = 48 * kMiB;
constexpr uint64_t kSlackBytes = 4 * kMiB;  // extents on their way in or out when we look

struct Scene {
    WorkDir dir;
    Daemon daemon;
    ArenaSampler sampler;

    Scene()
        : daemon(dir, {.budget = std::to_string(kBudgetBytes), .config = "[session]\ngroup = \"nogroup\"\n"}),
          sampler(daemon.pid()) {
        make_file(dir.file("hot.weights"), 1, kHotBytes);
        make_file(dir.file("cold.weights"), 2, kColdBytes);
        if (daemon.get("/v1/policy")["unusable"] != "")
            skip_program("policies can't be loaded here: " + daemon.get("/v1/policy")["unusable"].dump());
    }
    ~Scene() {
        sampler.stop();
        BOOST_TEST(sampler.peak_bytes() <= kBudgetBytes);
    }

    int tierctl(std::vector<std::string> words) {
        words.insert(words.begin(), {programs_dir() + "/bin/tierctl", "--socket", dir.file("control.sock")});
        return run_program(words, dir.file("tierctl.log"));
    }
    void use(const std::string& rules) {
        std::ofstream(dir.file("these.toml")) << rules;
        BOOST_REQUIRE(tierctl({"policy", "build", dir.file("these.toml")}) == 0);
        BOOST_REQUIRE(tierctl({"policy", "load", dir.file("these.bpf.o")}) == 0);
    }
    // Until the policy has seen all that happened so far.
    void settle() {
        auto epochs = [&] {
            const Json policy = daemon.get("/v1/policy");
            for (const Json& hook : policy["hooks"])
                if (hook["hook"] == "epoch") return hook["calls"].get<uint64_t>();
            return uint64_t{0};
        };
        uint64_t before = epochs();
        BOOST_TEST(comes_true([&] { return epochs() >= before + 3; }));
    }
    uint64_t resident_bytes(const std::string& name) {
        const Json models = daemon.get("/v1/models");
        for (const Json& model : models["models"])
            if (model["name"] == name) return model["resident_bytes"];
        return 0;
    }
    ReaderProcess reader(const std::string& name, uid_t user = 0) {
        ReaderProcess made(dir, {.socket = daemon.socket(), .user = user});
        made.call("map path=" + dir.file(name));
        BOOST_TEST(is_all(made.call("backing"), "arena"));
        return made;
    }
    void read_all(ReaderProcess& from, int seed) {
        BOOST_TEST(all_right(from.call("verify seed=" + std::to_string(seed))));
        settle();
    }
};

}  // namespace

BOOST_FIXTURE_TEST_CASE(what_is_pinned_stays_while_others_come_and_go, Scene) {
    use("[[rule]]\nmodel = \"hot*\"\npin = true\n");
    ReaderProcess hot = reader("hot.weights"), cold = reader("cold.weights");
    read_all(hot, 1);
    for (int pass = 0; pass < 3; pass++) read_all(cold, 2);
    BOOST_TEST(resident_bytes("hot.weights") == kHotBytes);
    BOOST_TEST(all_right(hot.call("verify seed=1")));
    // The same without the rule: what was read longest ago goes.
    use("[default]\nread_ahead = 2\n");
    settle();
    read_all(cold, 2);
    BOOST_TEST(resident_bytes("hot.weights") < kHotBytes);
    BOOST_TEST(all_right(hot.call("verify seed=1")));
}

BOOST_FIXTURE_TEST_CASE(above_its_cap_a_model_gives_way_to_others, Scene) {
    use("[[rule]]\nmodel = \"cold*\"\ncap = \"16MiB\"\n");
    ReaderProcess hot = reader("hot.weights"), cold = reader("cold.weights");
    read_all(cold, 2);
    BOOST_TEST(resident_bytes("cold.weights") > 16 * kMiB);  // memory that nobody else wants it keeps
    read_all(hot, 1);
    for (int pass = 0; pass < 3; pass++) {
        read_all(cold, 2);
        read_all(hot, 1);
    }
    BOOST_TEST(resident_bytes("hot.weights") + kSlackBytes >= kHotBytes);
    BOOST_TEST(resident_bytes("cold.weights") <= kBudgetBytes - kHotBytes + kSlackBytes);
}

BOOST_FIXTURE_TEST_CASE(tenants_are_told_apart_by_their_user, Scene) {
    if (geteuid() != 0) skip_program("acting as another user needs root");
    use("[[rule]]\nuser = \"nobody\"\nevict = \"first\"\n[[rule]]\nuser = 0\npin = true\n");
    ReaderProcess guest = reader("cold.weights", kNobody);
    read_all(guest, 2);
    ReaderProcess owner = reader("hot.weights");
    read_all(owner, 1);
    for (int pass = 0; pass < 2; pass++) read_all(guest, 2);
    BOOST_TEST(resident_bytes("hot.weights") == kHotBytes);
    BOOST_TEST(resident_bytes("cold.weights") <= kBudgetBytes - kHotBytes);
    BOOST_TEST(all_right(owner.call("verify seed=1 threads=2")));
}
