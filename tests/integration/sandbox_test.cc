// tierd with the capabilities and system calls that its unit leaves to it, and not one more: it does all that it does as root.
#define BOOST_TEST_MODULE sandbox
#include <sys/stat.h>
#include <unistd.h>

#include <boost/test/unit_test.hpp>
#include <filesystem>
#include <fstream>

#include "lib/base/bytes.h"
#include "tests/integration/policy_request.h"

using namespace tierd;
using namespace tierd::itest;

namespace {

constexpr uint64_t kFileBytes = 32 * kMiB;
const std::vector<std::string> kAsService = {"python3", SOURCE_DIR "/tests/integration/as_service.py",
                                             SOURCE_DIR "/packaging/tierd.service"};

struct CanBeHeld {
    CanBeHeld() {
        const WorkDir dir;
        const int status =
            run_program({"/usr/bin/env", kAsService[0], kAsService[1], kAsService[2]}, dir.file("log"));
        std::ifstream log(dir.file("log"));
        std::string reason;
        std::getline(log, reason);
        if (status != 0) skip_program(reason);
    }
};

struct Scene {
    Scene() { make_file(path, 4, kFileBytes); }
    uint64_t capabilities() const {
        std::ifstream status("/proc/" + std::to_string(daemon.pid()) + "/status");
        for (std::string line; std::getline(status, line);)
            if (line.starts_with("CapEff:")) return std::stoull(line.substr(7), nullptr, 16);
        return 0;
    }
    std::string field(const std::string& name) const {
        std::ifstream status("/proc/" + std::to_string(daemon.pid()) + "/status");
        for (std::string line; std::getline(status, line);)
            if (line.starts_with(name + ":")) return line.substr(name.size() + 2);
        return {};
    }

    WorkDir dir;
    std::string path = dir.file("model.weights");
    Daemon daemon{dir,
                  {.budget = "16MiB",
                   .config = "[session]\ngroup = \"nogroup\"\n[control]\ngroup = \"nogroup\"\n",
                   .wrapper = kAsService}};
};

}  // namespace

BOOST_GLOBAL_FIXTURE(CanBeHeld);

// CAP_SYS_ADMIN is gone: tierd drops it once the arenas' file system is mounted.
BOOST_FIXTURE_TEST_CASE(it_has_the_units_rights_and_no_other, Scene) {
    constexpr uint64_t kUnit = 1ull << 0 /* chown */ | 1ull << 2 /* dac_read_search */ |
                               1ull << 14 /* ipc_lock */ | 1ull << 23 /* sys_nice */ |
                               1ull << 38 /* perfmon */ | 1ull << 39 /* bpf */;
    BOOST_TEST(capabilities() == kUnit);
    BOOST_TEST(field("NoNewPrivs") == "1");
    BOOST_TEST(field("Seccomp") == "2");
}

// A file that only its owner may read: tierd reads it past the page cache all the same.
BOOST_FIXTURE_TEST_CASE(it_serves_another_users_file_within_the_budget, Scene) {
    BOOST_REQUIRE(chown(path.c_str(), kNobody, kNobody) == 0);
    BOOST_REQUIRE(chmod(path.c_str(), 0400) == 0);
    ReaderProcess reader(dir, {.socket = daemon.socket(), .user = kNobody});
    reader.call("map path=" + path);
    BOOST_TEST(is_all(reader.call("backing"), "arena"));
    ArenaSampler sampler(daemon.pid());
    for (const char* how : {"threads=4 order=random block=65536", "threads=1"})
        BOOST_TEST(all_right(reader.call(std::string("verify seed=4 ") + how)));
    sampler.stop();
    BOOST_TEST(sampler.peak_bytes() <= 16 * kMiB);
    BOOST_TEST(daemon.counter("evictions") > 0u);
    BOOST_TEST(is_all(reader.call("backing"), "arena"));
    const std::string backing = daemon.get("/v1/models")["models"][0]["backing"];
    BOOST_TEST(backing == "shmem thp");  // the private tmpfs could be mounted
}

BOOST_FIXTURE_TEST_CASE(it_loads_and_runs_a_policy, Scene) {
    if (auto usable = bpf_usable(); !usable) {
        BOOST_TEST_MESSAGE("policies can't be loaded here: " + usable.error().text());
        return;
    }
    const auto reply = daemon.ask("PUT", "/v1/policy", load_request("fifo", "/policies/"));
    BOOST_TEST(reply.status == 200, reply.body.dump());
    ReaderProcess reader(dir, {.socket = daemon.socket()});
    reader.call("map path=" + path);
    BOOST_TEST(all_right(reader.call("verify seed=4 threads=2")));
    const Json now = daemon.get("/v1/policy");
    BOOST_TEST(now["name"] == "fifo", now.dump());
    BOOST_TEST(now["ejections"] == 0u);
}

BOOST_FIXTURE_TEST_CASE(it_gives_the_control_socket_to_its_group, Scene) {
    struct stat st = {};
    BOOST_REQUIRE(stat(dir.file("control.sock").c_str(), &st) == 0);
    BOOST_TEST(st.st_gid == kNobody);
    BOOST_TEST((st.st_mode & 0777) == 0660u);
}

BOOST_FIXTURE_TEST_CASE(it_may_ask_for_the_processors_samples, Scene) {
    for (const Json& source : daemon.get("/v1/sources")["sources"])
        BOOST_TEST(source["unavailable_reason"].get<std::string>().find("Operation not permitted") ==
                       std::string::npos,
                   source.dump());
}

BOOST_FIXTURE_TEST_CASE(it_ends_in_order, Scene) {
    ReaderProcess reader(dir, {.socket = daemon.socket()});
    reader.call("map path=" + path);
    BOOST_TEST(daemon.stop() == 0);
    BOOST_TEST(all_right(reader.call("verify seed=4")));
}
