// gpu_policy_test.cc - a loaded policy says who has a GPU first, and sees which weights stand on it. The processes speak the
// lease protocol by hand: who holds and who waits is certain then.
#define BOOST_TEST_MODULE gpu_policy
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <boost/test/unit_test.hpp>

#include "lib/base/bytes.h"
#include "tests/integration/policy_request.h"
#include "tests/integration/raw_client.h"

using namespace tierd;
using namespace tierd::itest;

namespace {

constexpr uint64_t kGpuBytes = 100 * kMiB;

wire::LeaseHello hello() {
    auto hello = make<wire::LeaseHello>(wire::Kind::lease_hello);
    hello.gpu[0] = 0xca;
    hello.total_bytes = kGpuBytes;
    return hello;
}

// A process of that name that wants most of the GPU, and keeps what it gets.
class Holder {
  public:
    Holder(const Daemon& daemon, const std::string& name) : pid_(::fork()) {
        BOOST_REQUIRE(pid_ >= 0);
        if (pid_ > 0) return;
        ::prctl(PR_SET_NAME, name.c_str());
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        RawClient client(daemon.socket());
        auto want = make<wire::LeaseGrow>(wire::Kind::lease_grow);
        want.required_bytes = want.requested_bytes = 80 * kMiB;
        if (!client.send(hello()) || !client.send(want)) ::_exit(1);
        while (true) ::pause();
    }
    ~Holder() {
        ::kill(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
    }
    Holder(Holder&&) = delete;

    Json session(const Daemon& daemon) const {
        const Json list = daemon.get("/v1/sessions");
        for (const Json& session : list.at("sessions"))
            if (session.at("pid") == pid_) return session;
        return {{"gpu_position", 0}, {"gpu_lease_bytes", 0}};
    }
    uint64_t place(const Daemon& daemon) const { return session(daemon).at("gpu_position"); }
    bool holds(const Daemon& daemon) const { return session(daemon).at("gpu_lease_bytes") > 0; }

  private:
    pid_t pid_;
};

struct Scene {
    void loads(const std::string& name, const std::string& folder, const Json& knobs = Json::object()) {
        auto reply = daemon.ask("PUT", "/v1/policy", load_request(name, folder, knobs));
        BOOST_REQUIRE_MESSAGE(reply.status == 200, reply.body.dump());
    }

    WorkDir dir;
    // With slices this long nobody becomes overdue, and nobody is asked to give back while the test runs.
    Daemon daemon{dir, {.config = "[gpu]\ncapacity = \"90MiB\"\nslice_ms = 60000\n"}};
};

}  // namespace

BOOST_GLOBAL_FIXTURE(NeedsBpf);

BOOST_FIXTURE_TEST_CASE(who_matches_first_is_served_before_who_came_sooner, Scene) {
    loads("gpus", "/policies/", {{"first", "engine*"}, {"last", "batch"}});
    Holder other(daemon, "other");
    BOOST_REQUIRE(comes_true([&] { return other.holds(daemon); }));
    Holder batch(daemon, "batch");
    BOOST_REQUIRE(comes_true([&] { return batch.place(daemon) == 1; }));
    auto engine = std::make_unique<Holder>(daemon, "engine-1");
    BOOST_TEST(comes_true([&] { return engine->place(daemon) == 1 && batch.place(daemon) == 2; }));
    // Without the policy who came sooner is first again.
    BOOST_TEST(daemon.ask("DELETE", "/v1/policy").status == 200);
    BOOST_TEST(comes_true([&] { return engine->place(daemon) == 2 && batch.place(daemon) == 1; }));
    loads("gpus", "/policies/", {{"first", "engine*"}, {"last", "batch"}});
    BOOST_TEST(comes_true([&] { return engine->place(daemon) == 1 && batch.place(daemon) == 2; }));
    engine.reset();
    BOOST_TEST(comes_true([&] { return batch.place(daemon) == 1; }));
}

BOOST_FIXTURE_TEST_CASE(a_process_that_shows_too_much_too_often_holds_nobody_up, Scene) {
    const std::string path = dir.file("model.weights");
    make_file(path, 5, 64 * kMiB);
    loads("off_gpu", "/tests/policies/");
    ReaderProcess reader(dir, {.socket = daemon.socket()});
    reader.call("map path=" + path);
    RawClient client(daemon.socket());
    BOOST_REQUIRE(client.send(hello()));
    auto shows = make<wire::LeaseResidency>(wire::Kind::lease_residency);
    shows.file = daemon.get("/v1/models").at("models").at(0)["file"];
    shows.count = std::size(shows.runs);
    for (auto& run : shows.runs) run = {0, ~0ull};
    for (int i = 0; i < 3; i++) {
        for (int message = 0; message < 1000; message++) BOOST_REQUIRE(client.send(shows));
        BOOST_TEST(all_right(reader.call("verify seed=5")));
    }
    BOOST_TEST(is_all(reader.call("backing"), "arena"));
}

BOOST_FIXTURE_TEST_CASE(a_policy_sees_which_extents_stand_on_a_gpu, Scene) {
    const std::string path = dir.file("model.weights");
    make_file(path, 5, 32 * kMiB);
    ReaderProcess reader(dir, {.socket = daemon.socket()});
    reader.call("map path=" + path);
    BOOST_TEST(all_right(reader.call("verify seed=5")));
    auto model = [&] { return daemon.get("/v1/models").at("models").at(0); };
    const uint64_t all = model()["resident_bytes"];
    BOOST_REQUIRE(all == 32 * kMiB);

    RawClient client(daemon.socket());
    BOOST_REQUIRE(client.send(hello()));
    auto shows = make<wire::LeaseResidency>(wire::Kind::lease_residency);
    shows.file = model()["file"];
    shows.begins = 1;
    shows.count = 3;
    shows.runs[0] = {4 * kMiB, 8 * kMiB};
    shows.runs[1] = {~0ull - 5, 1000};  // no bytes of any file
    shows.runs[2] = {30 * kMiB, ~0ull};
    BOOST_REQUIRE(client.send(shows));
    loads("off_gpu", "/tests/policies/");
    BOOST_TEST(comes_true([&] { return model()["resident_bytes"] == all - 10 * kMiB; }), model().dump());
    BOOST_TEST(daemon.ask("DELETE", "/v1/policy").status == 200);
    BOOST_TEST(all_right(reader.call("verify seed=5")));
}
