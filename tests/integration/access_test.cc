// Who may have what: a client of another user is served like any other, who can't read a file gets none of
// its bytes, an arena can't be written by clients, and whoever breaks the rules of the protocol loses his
// session and nothing else happens.
#define BOOST_TEST_MODULE access
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <optional>
#include <random>
#include <span>

#include <boost/test/unit_test.hpp>

#include "lib/base/bytes.h"
#include "lib/session/wire.h"
#include "tests/integration/raw_client.h"

using namespace tierd;
using namespace tierd::itest;

namespace {

constexpr uint64_t kFileBytes = 8 * kMiB;

struct Scene {
    Scene() {
        if (geteuid() != 0) skip_program("acting as another user needs root");
        make_file(path, 4, kFileBytes);
        make_file(secret, 5, kFileBytes);
        std::filesystem::permissions(secret, std::filesystem::perms::owner_read);
        std::filesystem::create_directory(dir.file("open"));
        std::filesystem::permissions(dir.file("open"), std::filesystem::perms::all);
    }
    // tierd lives and serves somebody who keeps to the rules.
    void serves_others() const { is_served(dir, daemon, path, 4); }
    std::optional<Answer> attach(RawClient& client, int fd) const { return attach_by_hand(client, path, fd); }
    Fd open_weights(int flags = O_RDONLY) const { return Fd(open(path.c_str(), flags | O_CLOEXEC)); }
    size_t daemon_descriptors() const {
        const auto all = std::filesystem::directory_iterator("/proc/" + std::to_string(daemon.pid()) + "/fd");
        return size_t(std::distance(begin(all), end(all)));
    }

    WorkDir dir;
    std::string path = dir.file("model.weights");
    std::string secret = dir.file("secret.weights");
    Daemon daemon{dir, {.budget = "64MiB", .config = "[session]\ngroup = \"nogroup\"\n"}};
};

// A tierd, a file that all may read, and a place where all may write.
struct Outsider {
    explicit Outsider(const std::string& config)
        : daemon((prepare(), dir), {.budget = "64MiB", .config = config}) {}
    void prepare() const {
        make_file(path, 4, kFileBytes);
        std::filesystem::create_directory(dir.file("open"));
        std::filesystem::permissions(dir.file("open"), std::filesystem::perms::all);
    }
    WorkDir dir;
    std::string path = dir.file("model.weights");
    std::string copy = dir.file("open/copy");
    Daemon daemon;
};

}  // namespace

BOOST_FIXTURE_TEST_CASE(a_client_of_another_user_is_served, Scene) {
    ReaderProcess reader(dir, {.socket = daemon.socket(), .user = kNobody});
    reader.call("map path=" + path);
    BOOST_TEST(is_all(reader.call("backing"), "arena"));
    const std::string copy = dir.file("open/copy");
    BOOST_TEST(reader.call("write-out to=" + copy)["written"] ==
               kFileBytes);  // faults inside the kernel, untouched before
    BOOST_TEST(wrong_bytes_in_file(copy, 4, 0) == 0u);
    BOOST_TEST(all_right(reader.call("verify seed=4 threads=4")));
    BOOST_TEST(is_all(reader.call("backing"), "arena"));
    const Json sessions = daemon.get("/v1/sessions")["sessions"];
    BOOST_REQUIRE(sessions.size() == 1u);
    BOOST_TEST(sessions[0]["uid"] == kNobody);
}

BOOST_AUTO_TEST_CASE(a_client_outside_the_group_is_on_the_kernels_mapping_and_loses_nothing) {
    if (geteuid() != 0) skip_program("acting as another user needs root");
    const Outsider outsider("");
    ReaderProcess reader(outsider.dir, {.socket = outsider.daemon.socket(), .user = kNobody});
    reader.call("map path=" + outsider.path);
    BOOST_TEST(is_all(reader.call("backing"), "file"));
    BOOST_TEST(reader.call("write-out to=" + outsider.copy)["written"] == kFileBytes);
    BOOST_TEST(wrong_bytes_in_file(outsider.copy, 4, 0) == 0u);
    BOOST_TEST(all_right(reader.call("verify seed=4")));
    BOOST_TEST(counted(outsider.daemon.status()["refusals"], "not_in_group") > 0u);
}

BOOST_AUTO_TEST_CASE(a_client_outside_the_group_is_served_in_user_mode_where_that_is_allowed) {
    if (geteuid() != 0) skip_program("acting as another user needs root");
    const Outsider outsider("[session]\nuser_mode_faults = true\n");
    ReaderProcess reader(outsider.dir, {.socket = outsider.daemon.socket(), .user = kNobody});
    reader.call("map path=" + outsider.path);
    BOOST_TEST(is_all(reader.call("backing"), "arena"));
    BOOST_TEST(all_right(reader.call("verify seed=4 threads=4")));
    BOOST_TEST(outsider.daemon.get("/v1/sessions")["sessions"][0]["user_mode_faults"] == true);
    // What was touched before, a system call may read: only untouched weights are beyond a user-mode
    // userfaultfd.
    BOOST_TEST(reader.call("write-out to=" + outsider.copy)["written"] == kFileBytes);
    BOOST_TEST(wrong_bytes_in_file(outsider.copy, 4, 0) == 0u);
}

BOOST_FIXTURE_TEST_CASE(a_descriptor_that_cant_be_read_gets_nothing, Scene) {
    const std::string fifo = dir.file("fifo");
    BOOST_REQUIRE(mkfifo(fifo.c_str(), 0666) == 0);
    const Fd refusals[] = {
        open_weights(O_PATH),
        open_weights(O_WRONLY),
        Fd(open(secret.c_str(), O_PATH | O_CLOEXEC)),
        Fd(open(fifo.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC)),
        Fd(open("/dev/zero", O_RDONLY | O_CLOEXEC)),
        Fd(open("/dev/null", O_RDWR | O_CLOEXEC)),
        Fd(open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC)),
        Fd(eventfd(0, EFD_CLOEXEC)),
        Fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)),
    };
    for (const Fd& fd : refusals) {
        BOOST_REQUIRE(bool(fd));
        RawClient client(daemon.socket());
        BOOST_REQUIRE(client.hello().has_value());
        BOOST_TEST(refused(attach(client, fd.get())));
    }
    BOOST_TEST(counted(daemon.status()["refusals"], "descriptor") == std::size(refusals));
    serves_others();
}

BOOST_FIXTURE_TEST_CASE(nobody_gets_no_file_that_he_cant_open, Scene) {
    const AsNobody nobody;
    BOOST_TEST(open(secret.c_str(), O_RDONLY | O_CLOEXEC) == -1);
    const Fd handle(open(secret.c_str(), O_PATH | O_CLOEXEC));
    RawClient client(daemon.socket());
    BOOST_REQUIRE(client.hello().has_value());
    BOOST_TEST(refused(attach(client, handle.get())));
}

BOOST_FIXTURE_TEST_CASE(a_file_that_another_session_attached_cant_be_mapped, Scene) {
    RawClient owner(daemon.socket());
    BOOST_REQUIRE(owner.hello().has_value());
    const auto attached = attach(owner, open_weights().get());
    BOOST_REQUIRE(attached.has_value());
    BOOST_REQUIRE(attached->reply.status == 0);

    RawClient thief(daemon.socket());
    BOOST_REQUIRE(thief.hello().has_value());
    auto message = make<wire::Map>(wire::Kind::map);
    message.file = attached->reply.file;
    message.address = 64 * kMiB;
    message.length_bytes = 2 * kMiB;
    BOOST_TEST(refused(thief.ask(message, {thief.make_userfaultfd().get()})));
    serves_others();
}

BOOST_FIXTURE_TEST_CASE(an_arena_cant_be_written_by_a_client, Scene) {
    const AsNobody nobody;
    RawClient client(daemon.socket());
    BOOST_REQUIRE(client.hello().has_value());
    const auto attached = attach(client, open_weights().get());
    BOOST_REQUIRE(attached.has_value());
    BOOST_REQUIRE(attached->fds.size() == 1u);
    const int arena = attached->fds[0].get();

    BOOST_TEST(write(arena, "x", 1) == -1);
    BOOST_TEST(pwrite(arena, "x", 1, 0) == -1);
    BOOST_TEST(ftruncate(arena, 0) == -1);
    BOOST_TEST(ftruncate(arena, off_t(1) << 40) == -1);
    BOOST_TEST(fallocate(arena, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) == -1);
    BOOST_TEST(fallocate(arena, 0, 0, 4096) == -1);
    BOOST_TEST(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, arena, 0) == MAP_FAILED);
    BOOST_TEST(fchmod(arena, 0666) == -1);
    BOOST_TEST(fcntl(arena, F_ADD_SEALS, F_SEAL_FUTURE_WRITE) == -1);
    void* shared = mmap(nullptr, 4096, PROT_READ, MAP_SHARED, arena, 0);
    if (shared != MAP_FAILED) BOOST_TEST(mprotect(shared, 4096, PROT_READ | PROT_WRITE) == -1);
    const std::string again = "/proc/self/fd/" + std::to_string(arena);
    for (int flags : {O_RDWR, O_WRONLY, O_RDONLY | O_TRUNC})
        BOOST_TEST(open(again.c_str(), flags | O_CLOEXEC) == -1, "flags " << flags);
}

BOOST_FIXTURE_TEST_CASE(garbage_ends_the_session_and_nothing_else, Scene) {
    std::mt19937_64 dice(1);
    for (unsigned round = 0; round < 200; ++round) {
        RawClient client(daemon.socket());
        if (round % 2) BOOST_REQUIRE(client.hello().has_value());
        std::vector<char> bytes(dice() % 700);
        for (char& byte : bytes) byte = char(dice());
        // Half of them begin like a message, so that the checks behind the first one are reached.
        const wire::Header header{wire::kMagic, wire::kVersion, wire::Kind(dice() % 20),
                                  uint32_t(bytes.size()), 1};
        if (round % 4 >= 2 && bytes.size() >= sizeof(header))
            std::memcpy(bytes.data(), &header, sizeof(header));
        if (!bytes.empty() && client.send(bytes)) BOOST_TEST(refused(client.receive()));
    }
    BOOST_TEST(comes_true([&] { return daemon.status()["sessions"] == 0u; }));
    BOOST_TEST(counted(daemon.status()["refusals"], "protocol_error") > 0u);
    serves_others();
}

BOOST_FIXTURE_TEST_CASE(each_field_of_the_header_is_checked, Scene) {
    const std::array<void (*)(wire::Header&), 5> damages = {
        [](wire::Header& h) { h.magic ^= 1; }, [](wire::Header& h) { h.version = 99; },
        [](wire::Header& h) { h.size_bytes -= 1; }, [](wire::Header& h) { h.size_bytes = UINT32_MAX; },
        [](wire::Header& h) { h.kind = wire::Kind::fallen_back; }};
    for (const auto damage : damages) {
        RawClient client(daemon.socket());
        BOOST_REQUIRE(client.hello().has_value());
        auto message = make<wire::Attach>(wire::Kind::attach);
        damage(message.header);
        BOOST_TEST(refused(client.ask(message, {open_weights().get()})));
    }
    serves_others();
}

BOOST_FIXTURE_TEST_CASE(ranges_outside_the_file_and_wrong_descriptors_are_refused, Scene) {
    const std::array<void (*)(wire::Map&), 9> damages = {
        [](wire::Map& m) { m.file += 1000; },
        [](wire::Map& m) { m.offset_bytes = kFileBytes; },
        [](wire::Map& m) { m.offset_bytes = UINT64_MAX - 4095; },
        [](wire::Map& m) { m.length_bytes = kFileBytes + 4096; },
        [](wire::Map& m) { m.length_bytes = UINT64_MAX - 4095; },
        [](wire::Map& m) { m.length_bytes = 0; },
        [](wire::Map& m) { m.address += 1; },
        [](wire::Map& m) { m.offset_bytes += 1; },
        [](wire::Map& m) { m.address = UINT64_MAX - 4095; }};
    const Fd wrong_descriptors[] = {open_weights(), Fd(eventfd(0, EFD_CLOEXEC)),
                                    Fd(open("/dev/null", O_RDWR | O_CLOEXEC))};
    for (size_t i = 0; i < damages.size() + std::size(wrong_descriptors); ++i) {
        RawClient client(daemon.socket());
        BOOST_REQUIRE(client.hello().has_value());
        const auto attached = attach(client, open_weights().get());
        BOOST_REQUIRE(attached.has_value());
        auto message = make<wire::Map>(wire::Kind::map);
        message.file = attached->reply.file;
        message.address = 64 * kMiB;
        message.length_bytes = 2 * kMiB;
        const Fd userfaultfd = client.make_userfaultfd();
        int passed = userfaultfd.get();
        if (i < damages.size())
            damages[i](message);
        else
            passed = wrong_descriptors[i - damages.size()].get();
        BOOST_TEST(refused(client.ask(message, {passed})), "case " << i);
    }
    RawClient none(daemon.socket());
    BOOST_REQUIRE(none.hello().has_value());
    auto unattached = make<wire::Map>(wire::Kind::map);
    unattached.length_bytes = 4096;
    BOOST_TEST(refused(none.ask(unattached)));
    serves_others();
}

BOOST_FIXTURE_TEST_CASE(a_region_that_lies_about_its_address_hurts_only_its_client, Scene) {
    RawClient liar(daemon.socket());
    BOOST_REQUIRE(liar.hello().has_value());
    const auto attached = attach(liar, open_weights().get());
    BOOST_REQUIRE(attached.has_value());
    const Fd userfaultfd = liar.make_userfaultfd();
    auto map = make<wire::Map>(wire::Kind::map);
    map.file = attached->reply.file;
    map.address = 64 * kMiB;  // nothing is registered there
    map.length_bytes = kFileBytes;
    const auto mapped = liar.ask(map, {userfaultfd.get()});
    BOOST_REQUIRE(mapped.has_value());
    auto advise = make<wire::Advise>(wire::Kind::advise);
    advise.address = 64 * kMiB;
    advise.length_bytes = kFileBytes;
    advise.advice = wire::Advice::will_need;
    BOOST_TEST(liar.ask(advise).has_value());
    serves_others();
    auto unmap = make<wire::Unmap>(wire::Kind::unmap);
    unmap.address = 4096;
    unmap.length_bytes = UINT64_MAX - 4096;
    liar.ask(unmap);
    serves_others();
}

BOOST_FIXTURE_TEST_CASE(descriptors_that_come_with_bad_messages_are_not_kept, Scene) {
    serves_others();
    BOOST_TEST(comes_true([&] { return daemon.status()["sessions"] == 0u; }));
    const size_t before = daemon_descriptors();
    const Fd weights = open_weights();
    for (unsigned round = 0; round < 50; ++round) {
        RawClient client(daemon.socket());
        const std::vector<int> many(250, weights.get());
        auto message = make<wire::Hello>(wire::Kind::hello);
        client.send(std::span(reinterpret_cast<const char*>(&message), sizeof(message)), many);
        client.receive();
        auto attach_many = make<wire::Attach>(wire::Kind::attach);
        client.send(std::span(reinterpret_cast<const char*>(&attach_many), sizeof(attach_many)), many);
        client.receive();
    }
    BOOST_TEST(comes_true([&] { return daemon_descriptors() <= before; }),
               "descriptors " << before << " -> " << daemon_descriptors());
}

BOOST_FIXTURE_TEST_CASE(silent_connections_delay_nobody, Scene) {
    std::vector<RawClient> silent;
    for (unsigned i = 0; i < 100; ++i) silent.emplace_back(daemon.socket());
    std::vector<RawClient> handshaken;
    for (unsigned i = 0; i < 50; ++i)
        BOOST_REQUIRE(handshaken.emplace_back(daemon.socket()).hello().has_value());
    serves_others();
}
