#include "tests/guest/placement.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include "lib/base/bytes.h"
#include "lib/migrate/node_memory.h"
#include "tests/guest/machine.h"

namespace tierd::guest {

namespace {

using itest::Json;

constexpr uint64_t kPage = 4 * kKiB;
using Sums = std::map<int, uint64_t>;  // node → bytes

// "N0=16 N2=4" of the lines of numa_maps that `wanted` picks, in bytes.
template <class Wanted>
Sums numa_maps(const std::string& process, Wanted wanted) {
    Sums sums;
    std::ifstream maps("/proc/" + process + "/numa_maps");
    for (std::string line; std::getline(maps, line);) {
        if (!wanted(line)) continue;
        uint64_t page_bytes = kPage;
        if (auto at = line.find("kernelpagesize_kB="); at != line.npos)
            page_bytes = std::stoull(line.substr(at + 18)) * kKiB;
        std::istringstream words(line);
        for (std::string word; words >> word;)
            if (word.size() > 2 && word[0] == 'N' && std::isdigit(word[1]) != 0)
                sums[std::stoi(word.substr(1))] += std::stoull(word.substr(word.find('=') + 1)) * page_bytes;
    }
    return sums;
}

// While it lives the daemon stands still. A touch of a page that is dropped that moment would fill the hole with zeros.
class Halt {
  public:
    explicit Halt(const itest::Daemon& daemon) : daemon_(daemon) {
        daemon_.send(SIGSTOP);
        if (!itest::comes_true([&] { return stands_still(); }))
            throw std::runtime_error("the daemon does not stand still");
    }
    ~Halt() { ::kill(daemon_.pid(), SIGCONT); }
    Halt(const Halt&) = delete;

  private:
    bool stands_still() const {
        for (auto& task : std::filesystem::directory_iterator(fmt::format("/proc/{}/task", daemon_.pid()))) {
            std::string stat = first_line(task.path() / "stat");
            if (stat.find(") T ") == stat.npos) return false;
        }
        return true;
    }
    const itest::Daemon& daemon_;
};

// The arena of the daemon's one weight file, mapped here.
struct Arena {
    Fd fd;
    Mapping mapping;
    uint64_t bytes = 0;

    explicit Arena(pid_t daemon) {
        auto arenas = itest::arenas_of(daemon);
        if (arenas.size() != 1) throw std::runtime_error("the daemon has not one arena");
        fd = Fd(::open(fmt::format("/proc/self/fd/{}", arenas[0].get()).c_str(), O_RDONLY | O_CLOEXEC));
        struct stat st{};
        if (!fd || ::fstat(fd.get(), &st) != 0) throw std::runtime_error("the arena can't be opened");
        bytes = static_cast<uint64_t>(st.st_size);
        void* at = ::mmap(nullptr, bytes, PROT_READ, MAP_SHARED, fd.get(), 0);
        if (at == MAP_FAILED) throw std::runtime_error("the arena can't be mapped");
        mapping = Mapping(at, bytes);
    }
    uint64_t allocated_bytes() const {
        struct stat st{};
        return ::fstat(fd.get(), &st) == 0 ? static_cast<uint64_t>(st.st_blocks) * 512 : 0;
    }
    // The node of each page; negative: there is none.
    std::vector<int> nodes(const Halt&) const {
        const size_t pages = bytes / kPage;
        std::vector<unsigned char> there(pages);
        if (::mincore(mapping.data(), bytes, there.data()) != 0) throw std::runtime_error("mincore");
        for (size_t begin = 0; begin < pages;) {
            size_t end = begin + 1;
            while (end < pages && (there[end] & 1) == (there[begin] & 1)) end++;
            if ((there[begin] & 1) != 0)
                ::madvise(mapping.data() + begin * kPage, (end - begin) * kPage, MADV_POPULATE_READ);
            begin = end;
        }
        std::vector<int> nodes(pages);
        if (!find_nodes({mapping.data(), bytes, kPage}, nodes)) throw std::runtime_error("move_pages");
        for (size_t i = 0; i < pages; i++)
            if ((there[i] & 1) == 0) nodes[i] = -ENOENT;
        return nodes;
    }
    std::string own_line_begin() const {
        return fmt::format("{:x} ", reinterpret_cast<uint64_t>(mapping.data()));
    }
};

std::string text_of(const Sums& sums) {
    std::string text;
    for (auto& [node, bytes] : sums) text += fmt::format(" node {}: {}", node, bytes);
    return text;
}

// One look.
std::string disagreement(const itest::Daemon& daemon, pid_t reader) {
    Json tiers = daemon.get("/v1/tiers").at("tiers");
    std::map<uint32_t, std::vector<int>> nodes_of;
    std::map<std::string, uint64_t> used, counted;
    uint64_t granted = 0;
    for (const Json& tier : tiers) {
        nodes_of[tier.at("number")] = tier.at("nodes").get<std::vector<int>>();
        granted += tier.at("used_bytes").get<uint64_t>();
    }
    Arena arena(daemon.pid());
    if (arena.allocated_bytes() != granted)
        return fmt::format("{} bytes are granted, the arena has {}", granted, arena.allocated_bytes());
    std::string model = daemon.get("/v1/models").at("models").at(0).at("name");
    Json extents = daemon.get("/v1/models/" + model + "/heatmap").at("extents");
    Halt halt(daemon);
    auto nodes = arena.nodes(halt);
    Sums sums;
    for (int node : nodes)
        if (node >= 0) sums[node] += kPage;
    std::vector<bool> belongs(nodes.size());
    for (const Json& extent : extents) {
        if (!extent.at("resident").get<bool>()) continue;
        auto first = extent.at("offset_bytes").get<uint64_t>() / kPage;
        auto count = round_up(extent.at("bytes").get<uint64_t>(), kPage) / kPage;
        const auto& own = nodes_of[extent.at("tier")];
        for (uint64_t page = first; page < first + count; page++) {
            belongs[page] = true;
            if (std::ranges::find(own, nodes[page]) == own.end())
                return fmt::format("page {} of an extent of tier {} is on node {}", page,
                                   extent.at("tier").get<int>(), nodes[page]);
        }
    }
    for (size_t page = 0; page < nodes.size(); page++)
        if (nodes[page] >= 0 && !belongs[page])
            return fmt::format("page {} is on node {} and belongs to no resident extent", page, nodes[page]);
    auto own =
        numa_maps("self", [&](const std::string& line) { return line.starts_with(arena.own_line_begin()); });
    if (own != sums) return "numa_maps says" + text_of(own) + ", move_pages" + text_of(sums);
    auto mapped = numa_maps(std::to_string(reader),
                            [](const std::string& line) { return line.find("arena") != line.npos; });
    for (auto& [node, bytes] : mapped)
        if (bytes > sums[node]) return "the reader has mapped" + text_of(mapped) + " of" + text_of(sums);
    return {};
}

}  // namespace

size_t move_behind_its_back(const itest::Daemon& daemon, int from, int to, size_t step) {
    Arena arena(daemon.pid());
    Halt halt(daemon);
    auto nodes = arena.nodes(halt);
    std::vector<void*> pages;
    for (size_t page = 0; page < nodes.size(); page += step)
        if (nodes[page] == from) pages.push_back(arena.mapping.data() + page * kPage);
    std::vector<int> target(pages.size(), to), told(pages.size());
    if (!move_pages_to(pages, target, told)) return 0;
    auto now = arena.nodes(halt);
    size_t went = 0;
    for (size_t page = 0; page < nodes.size(); page++) went += nodes[page] == from && now[page] == to;
    return went;
}

std::string placement_disagreement(const itest::Daemon& daemon, pid_t reader, unsigned seconds) {
    std::string told;
    itest::comes_true(
        [&] {
            told = disagreement(daemon, reader);
            return told.empty();
        },
        seconds);
    return told;
}

}  // namespace tierd::guest
