// Files and names meant to mislead or to cost: sparse giants, memory files, names that are swapped behind tierd's back or steer
// a terminal, and the rights of its sockets.
#define BOOST_TEST_MODULE security_files
#include <sys/mman.h>
#include <sys/stat.h>

#include <atomic>
#include <boost/test/unit_test.hpp>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "lib/base/bytes.h"
#include "tests/integration/raw_client.h"

using namespace tierd;
using namespace tierd::itest;

namespace {

constexpr uint64_t kFileBytes = 8 * kMiB;

struct Scene {
    Scene() {
        if (geteuid() != 0) skip_program("acting as another user needs root");
        make_file(path, 4, kFileBytes);
    }
    void serves(const std::string& file, uint64_t seed, uid_t user = 0) const {
        is_served(dir, daemon, file, seed, user);
    }
    std::string log() const { return text_of(dir.file("tierd.log")); }
    uint64_t daemon_bytes() const {
        std::ifstream status("/proc/" + std::to_string(daemon.pid()) + "/status");
        for (std::string line; std::getline(status, line);)
            if (line.starts_with("VmRSS:")) return std::stoull(line.substr(6)) * kKiB;
        return 0;
    }

    WorkDir dir;
    std::string path = dir.file("model.weights");
    Daemon daemon{
        dir, {.budget = "64MiB", .config = "[session]\ngroup = \"nogroup\"\nuser_metadata = \"4MiB\"\n"}};
};

}  // namespace

BOOST_FIXTURE_TEST_CASE(huge_sparse_files_cost_their_user_and_not_tierd, Scene) {
    const uint64_t before = daemon_bytes();
    std::vector<std::unique_ptr<ReaderProcess>> readers;
    unsigned served = 0;
    for (int i = 0; i < 8; ++i) {
        const std::string giant = dir.file("giant-" + std::to_string(i) + ".weights");
        make_island_file(giant, 7, 16 * kGiB, {0, 8 * kGiB}, 64 * kKiB);
        auto& reader = readers.emplace_back(
            std::make_unique<ReaderProcess>(dir, ReaderPlan{.socket = daemon.socket(), .user = kNobody}));
        reader->call("map path=" + giant);
        served += is_all(reader->call("backing from=0 length=4096"), "arena");
        // Served or not, it reads the file.
        BOOST_TEST(all_right(reader->call("verify seed=7 length=65536")));
        BOOST_TEST(all_right(reader->call("verify seed=7 from=8589934592 length=65536")));
    }
    BOOST_TEST(served >= 1u);
    BOOST_TEST(served < 8u);
    BOOST_TEST(daemon_bytes() < before + 64 * kMiB);
    BOOST_TEST(log().find("raise [session] user_metadata") != std::string::npos);
    BOOST_TEST(counted(daemon.status()["refusals"], "no_space") >= 8 - served);
    serves(path, 4);  // root's is not that user's
    readers.clear();
    // What the giants took is given back with them.
    BOOST_TEST(comes_true([&] { return daemon.status()["sessions"] == 0u; }));
    BOOST_TEST(comes_true([&] {
        const Json models = daemon.get("/v1/models")["models"];
        for (const Json& model : models)
            daemon.ask("POST", "/v1/models/" + std::to_string(model["file"].get<uint64_t>()) + "/evict");
        return models.empty();
    }));
    serves(path, 4, kNobody);
}

BOOST_FIXTURE_TEST_CASE(a_giant_that_alone_is_too_much_stays_with_the_kernel, Scene) {
    const std::string giant = dir.file("giant.weights");
    make_island_file(giant, 7, 256 * kGiB, {0}, 64 * kKiB);
    ReaderProcess reader(dir, {.socket = daemon.socket(), .user = kNobody});
    reader.call("map path=" + giant);
    BOOST_TEST(is_all(reader.call("backing from=0 length=4096"), "file"));
    BOOST_TEST(all_right(reader.call("verify seed=7 length=65536")));
}

BOOST_FIXTURE_TEST_CASE(a_memory_file_is_served_as_what_it_is_or_not_at_all, Scene) {
    const Fd memory(memfd_create("weights", MFD_CLOEXEC));
    BOOST_REQUIRE(ftruncate(memory.get(), off_t(kFileBytes)) == 0);
    RawClient client(daemon.socket());
    BOOST_REQUIRE(client.hello().has_value());
    const auto answer = attach_by_hand(client, "/weights", memory.get());
    // A regular file to the kernel: whoever holds it could read it before.
    BOOST_REQUIRE(answer.has_value());
    if (answer->reply.status == 0) BOOST_TEST(answer->reply.size_bytes == kFileBytes);
    // And shrunk meanwhile, it takes nobody down.
    BOOST_REQUIRE(ftruncate(memory.get(), 0) == 0);
    serves(path, 4);
    const Fd empty(memfd_create("empty", MFD_CLOEXEC));
    RawClient other(daemon.socket());
    BOOST_REQUIRE(other.hello().has_value());
    BOOST_TEST(refused(attach_by_hand(other, "/empty", empty.get())));
}

BOOST_FIXTURE_TEST_CASE(a_client_cant_pass_its_file_off_as_another, Scene) {
    const std::string evil = dir.file("evil.weights");
    make_file(evil, 5, kFileBytes);
    RawClient liar(daemon.socket());
    BOOST_REQUIRE(liar.hello().has_value());
    const Fd fd(open(evil.c_str(), O_RDONLY | O_CLOEXEC));
    BOOST_REQUIRE(attach_by_hand(liar, path, fd.get())->reply.status == 0);
    const Json models = daemon.get("/v1/models")["models"];
    BOOST_REQUIRE(models.size() == 1u);
    BOOST_TEST(models[0]["path"] == evil);
    BOOST_TEST(models[0]["name"] == "evil.weights");
}

// The names change all the while; who opened which file gets that one's bytes.
BOOST_FIXTURE_TEST_CASE(swapped_names_and_links_never_mix_two_files, Scene) {
    const std::string first = dir.file("first.weights"), second = dir.file("second.weights");
    const std::string name = dir.file("current.weights");
    make_file(first, 21, kFileBytes);
    make_file(second, 22, kFileBytes);
    std::filesystem::create_symlink(first, name);
    std::atomic<bool> stop{false};
    std::thread swapper([&] {
        for (unsigned i = 0; !stop; ++i) {
            std::error_code ignored;
            std::filesystem::create_symlink(i % 2 ? first : second, name + ".new", ignored);
            std::filesystem::rename(name + ".new", name, ignored);
        }
    });
    for (unsigned round = 0; round < 40; ++round) {
        ReaderProcess reader(dir, {.socket = daemon.socket()});
        reader.call("map path=" + name);
        const Json as_first = reader.call("verify seed=21 threads=2");
        const Json as_second = reader.call("verify seed=22 threads=2");
        BOOST_TEST((all_right(as_first) || all_right(as_second)), as_first.dump() + as_second.dump());
    }
    stop = true;
    swapper.join();
}

BOOST_FIXTURE_TEST_CASE(a_files_name_writes_no_line_of_its_own_into_the_log, Scene) {
    const std::string name = dir.file("a\n12:00:00.000 error forged\x1b[2J\x9b.weights");
    make_file(name, 4, 2 * kMiB);
    RawClient client(daemon.socket());
    BOOST_REQUIRE(client.hello().has_value());
    const Fd fd(open(name.c_str(), O_RDONLY | O_CLOEXEC));
    BOOST_REQUIRE(attach_by_hand(client, name, fd.get())->reply.status == 0);
    // Its trouble is logged too.
    BOOST_REQUIRE(std::filesystem::remove(name));
    BOOST_TEST(comes_true([&] { return log().find("changed while it was served") != std::string::npos; }));
    std::istringstream lines(log());
    for (std::string line; std::getline(lines, line);) {
        BOOST_TEST(!line.starts_with("12:00:00.000 error forged"), line);
        BOOST_TEST((line.find_first_of("\x1b\x9b") == std::string::npos), line);
    }
}

BOOST_FIXTURE_TEST_CASE(the_sockets_have_the_rights_that_the_configuration_says, Scene) {
    struct stat st = {};
    BOOST_REQUIRE(stat(daemon.socket().c_str(), &st) == 0);
    BOOST_TEST((st.st_mode & 0777) == 0666u);
    const std::string control = dir.file("control.sock");
    BOOST_REQUIRE(stat(control.c_str(), &st) == 0);
    BOOST_TEST((st.st_mode & 0777) == 0600u);
    BOOST_TEST(st.st_uid == 0u);
    const AsNobody nobody;
    BOOST_CHECK_THROW(daemon.get("/v1/status"), std::exception);
}

BOOST_AUTO_TEST_CASE(the_control_sockets_group_and_nobody_else_may_use_it) {
    if (geteuid() != 0) skip_program("acting as another user needs root");
    const WorkDir dir;
    const Daemon daemon(dir, {.config = "[control]\ngroup = \"nogroup\"\n"});
    struct stat st = {};
    BOOST_REQUIRE(stat(dir.file("control.sock").c_str(), &st) == 0);
    BOOST_TEST((st.st_mode & 0777) == 0660u);
    BOOST_TEST(st.st_gid == kNobody);
    const AsNobody nobody;
    BOOST_TEST(daemon.get("/v1/status").contains("version"));
}
