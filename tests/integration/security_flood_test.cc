// Clients that ask too much: thousands of connections, answers that nobody reads, messages without end, processes that stand
// still. tierd refuses or ends them, and the others are served within the usual time.
#define BOOST_TEST_MODULE security_flood
#include <poll.h>
#include <sys/resource.h>

#include <atomic>
#include <boost/test/unit_test.hpp>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <list>

#include "lib/base/bytes.h"
#include "lib/base/clock.h"
#include "tests/integration/raw_client.h"

using namespace tierd;
using namespace tierd::itest;

namespace {

constexpr uint64_t kFileBytes = 32 * kMiB;
constexpr unsigned kConnections = 10'000;

struct Scene {
    Scene() {
        if (geteuid() != 0) skip_program("acting as another user needs root");
        make_file(path, 4, kFileBytes);
    }
    void serves_others() const {
        drop_cache(path);
        ReaderProcess reader(dir, {.socket = daemon.socket()});
        reader.call("map path=" + path);
        BOOST_TEST(is_all(reader.call("backing"), "arena"));
        const Json told = reader.call("verify seed=4 order=random block=65536");
        BOOST_TEST(all_right(told), told.dump());
        BOOST_TEST(told["stall_ms"].get<double>() < 4000, told.dump());  // the deadline of a fault is 5 s
    }
    uint64_t daemon_bytes() const {
        std::ifstream status("/proc/" + std::to_string(daemon.pid()) + "/status");
        for (std::string line; std::getline(status, line);)
            if (line.starts_with("RssAnon:")) return std::stoull(line.substr(8)) * kKiB;
        return 0;
    }
    Fd open_weights() const { return Fd(open(path.c_str(), O_RDONLY | O_CLOEXEC)); }

    WorkDir dir;
    std::string path = dir.file("model.weights");
    Daemon daemon{dir, {.budget = "64MiB", .config = "[session]\ngroup = \"nogroup\"\n"}};
};

// One user's connections, as many as he likes.
class Crowd {
  public:
    explicit Crowd(const std::string& path) {
        sockaddr_un address = {};
        address.sun_family = AF_UNIX;
        path.copy(address.sun_path, sizeof(address.sun_path) - 1);
        for (unsigned i = 0; i < kConnections; ++i) {
            Fd one(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
            BOOST_REQUIRE(bool(one));
            if (connect(one.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0)
                connections.push_back(std::move(one));
        }
    }
    void handshake() {
        const auto hello = make<wire::Hello>(wire::Kind::hello);
        for (const Fd& one : connections)
            ::send(one.get(), &hello, sizeof hello, MSG_NOSIGNAL | MSG_DONTWAIT);
    }
    std::vector<Fd> connections;
};

}  // namespace

BOOST_FIXTURE_TEST_CASE(ten_thousand_connections_of_one_user_leave_room_for_others, Scene) {
    rlimit limit{};
    getrlimit(RLIMIT_NOFILE, &limit);
    const rlimit more{kConnections + 1000, std::max<rlim_t>(limit.rlim_max, kConnections + 1000)};
    if (setrlimit(RLIMIT_NOFILE, &more) != 0) skip_program("this process may not open so many descriptors");
    {
        std::optional<AsNobody> nobody(std::in_place);
        Crowd crowd(daemon.socket());
        crowd.handshake();
        nobody.reset();
        BOOST_TEST(crowd.connections.size() == kConnections);
        BOOST_TEST(comes_true([&] { return counted(daemon.status()["refusals"], "too_many") > 0; }));
        serves_others();
        const Json sessions = daemon.get("/v1/sessions")["sessions"];
        BOOST_TEST(std::ranges::count_if(sessions, [](const Json& s) { return s["uid"] == kNobody; }) <=
                   1024 / 2);
        const auto fds = std::filesystem::directory_iterator("/proc/" + std::to_string(daemon.pid()) + "/fd");
        BOOST_TEST(std::distance(begin(fds), end(fds)) < 4000);
    }
    BOOST_TEST(comes_true([&] { return daemon.status()["sessions"] == 0u; }));
    serves_others();
    setrlimit(RLIMIT_NOFILE, &limit);
}

BOOST_FIXTURE_TEST_CASE(a_client_that_never_reads_its_socket_loses_its_session, Scene) {
    RawClient deaf(daemon.socket());
    BOOST_REQUIRE(deaf.hello().has_value());
    const Fd weights = open_weights();
    auto attach = make<wire::Attach>(wire::Kind::attach);
    path.copy(attach.path, sizeof(attach.path) - 1);
    // Each answer carries a descriptor; the socket's room is all that tierd spends on them.
    const timeval patience{0, 100'000};
    setsockopt(deaf.socket(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    bool ended = false;
    for (unsigned i = 0; i < 100'000 && !ended; ++i) ended = !deaf.send(attach, {weights.get()});
    BOOST_TEST(ended);
    BOOST_TEST(comes_true([&] { return daemon.status()["sessions"] == 0u; }));
    serves_others();
}

BOOST_FIXTURE_TEST_CASE(messages_at_full_speed_cost_neither_memory_nor_others, Scene) {
    const uint64_t before = daemon_bytes();
    std::atomic<bool> stop{false};
    std::atomic<uint64_t> sent{0};
    std::vector<std::thread> flood;
    std::list<RawClient> clients;
    for (unsigned i = 0; i < 4; ++i) {
        RawClient& client = clients.emplace_back(daemon.socket());
        BOOST_REQUIRE(client.hello().has_value());
        const auto attached = attach_by_hand(client, path, open_weights().get());
        BOOST_REQUIRE(attached.has_value());
        auto map = make<wire::Map>(wire::Kind::map);
        map.file = attached->reply.file;
        map.address = 64 * kMiB;
        map.length_bytes = kFileBytes;
        const Fd userfaultfd = client.make_userfaultfd();
        BOOST_REQUIRE(client.ask(map, {userfaultfd.get()}).has_value());
        flood.emplace_back([&, map]() mutable {
            auto advise = make<wire::Advise>(wire::Kind::advise);
            advise.address = map.address;
            advise.length_bytes = map.length_bytes;
            advise.advice = wire::Advice::will_need;
            while (!stop) sent += client.ask(advise).has_value() + client.ask(map).has_value();
        });
    }
    const uint64_t until_ns = monotonic_ns() + 2 * kNsPerSecond;
    while (monotonic_ns() < until_ns) serves_others();
    stop = true;
    for (std::thread& thread : flood) thread.join();
    BOOST_TEST(sent > 1000u);
    BOOST_TEST(daemon_bytes() < before + 64 * kMiB);
}

BOOST_FIXTURE_TEST_CASE(a_stopped_client_delays_nobody, Scene) {
    ReaderProcess stopped(dir, {.socket = daemon.socket(), .user = kNobody});
    stopped.call("map path=" + path);
    stopped.call("verify seed=4 threads=4 until=stop order=random block=65536");
    kill(stopped.pid(), SIGSTOP);
    serves_others();
    // Orders that it does not follow cost it the session, not the others their time.
    rewrite(path, 4, 0, 4096);
    serves_others();
    kill(stopped.pid(), SIGCONT);
    const Json told = stopped.call("stop");
    BOOST_TEST(all_right(told), told.dump());
}
