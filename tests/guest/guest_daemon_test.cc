// guest_daemon_test.cc - the daemon, the preloaded library and a reader on real memory nodes: every byte is verified while
// extents are promoted, demoted, drained, and their memory goes offline or is pulled.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/test/unit_test.hpp>
#include <fstream>
#include <sstream>

#include "lib/base/bytes.h"
#include "lib/migrate/node_memory.h"
#include "tests/guest/machine.h"
#include "tests/integration/harness.h"

using namespace tierd;
using namespace tierd::itest;

namespace {

constexpr uint64_t kSeed = 11;
constexpr uint64_t kFileBytes = 24 * kMiB;
// Small tiers, so that a drain is soon over; together less than the file.
constexpr const char* kConfig = R"(
[session]
deadline_ms = 60000
[policy]
name = "lru"
epoch_ms = 10
[tiers]
migrate_limit = "0"
[[tier]]
name = "hbm1"
capacity = "4MiB"
[[tier]]
name = "cxl2"
capacity = "6MiB"
)";

int tierctl(const Daemon& daemon, const WorkDir& dir, std::vector<std::string> words) {
    std::string control = daemon.socket();
    control.replace(control.rfind("tierd.sock"), 10, "control.sock");
    std::vector<std::string> argv = {build_dir() + "/bin/tierctl", "--socket", control};
    argv.insert(argv.end(), words.begin(), words.end());
    return run_program(argv, dir.file("tierctl.log"));
}

Json tier(const Daemon& daemon, const std::string& name) {
    Json tiers = daemon.get("/v1/tiers");
    for (const Json& one : tiers["tiers"])
        if (one["name"] == name) return one;
    return nullptr;
}

// Bytes of the daemon's arenas on each node, as move_pages says of what is in memory.
std::map<int, uint64_t> arena_bytes_by_node(pid_t daemon) {
    std::map<int, uint64_t> bytes;
    for (const Fd& looked : arenas_of(daemon)) {
        Fd fd(::open(("/proc/self/fd/" + std::to_string(looked.get())).c_str(), O_RDONLY | O_CLOEXEC));
        struct stat st{};
        BOOST_REQUIRE(::fstat(fd.get(), &st) == 0);
        auto length = static_cast<size_t>(st.st_size);
        void* at = ::mmap(nullptr, length, PROT_READ, MAP_SHARED, fd.get(), 0);
        BOOST_REQUIRE(at != MAP_FAILED);
        Mapping mapping(at, length);
        for (uint64_t offset = 0; offset < length; offset += 4096) {
            PageRange page{mapping.data() + offset, 4096, 4096};
            if (!map_pages(page)) continue;  // a hole
            Placement placed = find_pages(page).value();
            for (auto& [node, there] : placed.bytes_on) bytes[node] += there;
        }
    }
    return bytes;
}

// The same as the kernel's numa_maps says of the reader: what it has mapped of the arena, on each node.
std::map<int, uint64_t> mapped_bytes_by_node(pid_t reader) {
    std::map<int, uint64_t> bytes;
    std::ifstream maps("/proc/" + std::to_string(reader) + "/numa_maps");
    for (std::string line; std::getline(maps, line);) {
        if (line.find("arena") == std::string::npos) continue;
        std::istringstream words(line);
        for (std::string word; words >> word;)
            if (word.size() > 2 && word[0] == 'N' && std::isdigit(word[1]) != 0)
                bytes[std::stoi(word.substr(1))] += std::stoull(word.substr(word.find('=') + 1)) * 4096;
    }
    return bytes;
}

struct Setup {
    WorkDir dir;
    std::string path = dir.file("model.weights");
    Daemon daemon;
    ReaderProcess reader;

    Setup()
        : daemon((make_file(path, kSeed, kFileBytes), dir), plan()),
          reader(dir, {.socket = daemon.socket()}) {
        reader.call("map path=" + path);
        BOOST_TEST(is_all(reader.call("backing"), "arena"));
    }
    static DaemonPlan plan() {
        return {.budget = "6MiB", .options = {"--extent", "64KiB", "--policy", "lru"}, .config = kConfig};
    }
    void begin() { reader.call("verify seed=11 until=stop threads=2 order=random block=65536"); }
    void end() {
        Json told = reader.call("stop");
        BOOST_TEST(all_right(told), told.dump());
        BOOST_TEST(told.at("bytes").get<uint64_t>() > 0u);
        BOOST_TEST(is_all(reader.call("backing"), "arena"));
    }
    uint64_t used(const std::string& name) const {
        Json one = tier(daemon, name);
        return one.is_null() ? 0 : one["used_bytes"].get<uint64_t>();
    }
    // What the daemon believes is what move_pages says, on every node.
    void check_placement() const {
        bool agree = comes_true([&] {
            auto real = arena_bytes_by_node(daemon.pid());
            return real[0] == used("dram0") && real[1] == used("hbm1") && real[2] == used("cxl2");
        });
        auto real = arena_bytes_by_node(daemon.pid());
        BOOST_TEST(agree, "really " << real[0] << " " << real[1] << " " << real[2] << ", believed "
                                    << used("dram0") << " " << used("hbm1") << " " << used("cxl2"));
        auto mapped = mapped_bytes_by_node(reader.pid());
        for (auto& [node, bytes] : mapped) BOOST_TEST(bytes <= real[node]);
    }
};

}  // namespace

BOOST_AUTO_TEST_CASE(every_byte_is_right_while_extents_move_a_thousand_times) {
    Setup setup;
    setup.begin();
    for (int round = 0; round < 60 && setup.daemon.counter("moves") < 1000; round++) {
        const char* name = round % 2 == 0 ? "hbm1" : "cxl2";
        BOOST_TEST(tierctl(setup.daemon, setup.dir, {"tier", "drain", name}) == 0);
        BOOST_TEST(setup.used(name) == 0u);
        BOOST_TEST(tierctl(setup.daemon, setup.dir, {"tier", "add", name}) == 0);
        // The reader fills it again.
        BOOST_TEST(comes_true([&] { return setup.used(name) >= 3 * kMiB; }));
    }
    setup.end();
    BOOST_TEST(setup.daemon.counter("moves") >= 1000u);
    BOOST_TEST_MESSAGE(setup.daemon.counter("moves")
                       << " moves, " << setup.daemon.counter("moves_refused") << " refused");
    setup.check_placement();
}

BOOST_AUTO_TEST_CASE(memory_that_goes_offline_under_load_loses_nothing) {
    Setup setup;
    setup.begin();
    BOOST_TEST(comes_true([&] { return setup.used("cxl2") > 0; }));
    std::vector<int> offline;
    for (int block : guest::memory_blocks(2))
        if (guest::set_block_online(block, false) == 0) offline.push_back(block);
    BOOST_TEST(!offline.empty());
    for (int block : offline) BOOST_TEST(guest::set_block_online(block, true) == 0);
    setup.end();
    setup.check_placement();
}

BOOST_AUTO_TEST_CASE(memory_that_is_plugged_in_is_used_at_once_and_may_be_pulled_again) {
    Setup setup;
    setup.begin();
    guest::plug_memory("used", 3, 128);
    BOOST_TEST(comes_true([&] { return setup.used("cxl3") > 0; }));
    guest::pull_memory("used", 3);
    BOOST_TEST(comes_true([&] { return tier(setup.daemon, "cxl3").is_null(); }));
    setup.end();
    setup.check_placement();
}
