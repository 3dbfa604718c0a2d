#include "tests/guest/machine.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <sstream>
#include <stdexcept>
#include <thread>

#include "lib/base/fd.h"

namespace tierd::guest {

namespace {

constexpr const char* kNodes = "/sys/devices/system/node";
constexpr const char* kBlocks = "/sys/devices/system/memory";

constexpr int kPatienceS = 60;

template <class Done>
void wait_until(const std::string& what, Done done) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(kPatienceS);
    while (!done()) {
        if (std::chrono::steady_clock::now() >= deadline)
            throw std::runtime_error("waited " + std::to_string(kPatienceS) + " s for: " + what);
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
}

bool is_online(int block) {
    return first_line(std::string(kBlocks) + "/memory" + std::to_string(block) + "/state") == "online";
}

}  // namespace

std::string first_line(const std::string& path) {
    std::ifstream in(path);
    std::string line;
    std::getline(in, line);
    return line;
}

std::vector<int> parse_list(const std::string& list) {
    std::vector<int> numbers;
    std::stringstream parts(list);
    for (std::string part; std::getline(parts, part, ',');) {
        int from = std::stoi(part);
        auto dash = part.find('-');
        int to = dash == std::string::npos ? from : std::stoi(part.substr(dash + 1));
        for (int number = from; number <= to; number++) numbers.push_back(number);
    }
    return numbers;
}

std::vector<int> online_nodes() {
    return parse_list(first_line(std::string(kNodes) + "/has_memory"));
}

void tell_monitor(const std::string& command) {
    Fd port(::open("/dev/port-monitor", O_WRONLY | O_CLOEXEC));
    std::string line = command + "\n";
    if (!port || ::write(port.get(), line.data(), line.size()) != static_cast<ssize_t>(line.size()))
        throw std::runtime_error("the machine's monitor can't be reached");
}

void plug_memory(const std::string& id, int node, uint64_t mib) {
    size_t before = memory_blocks(node).size();
    size_t more = mib / 128;
    tell_monitor("object_add memory-backend-ram,id=mem-" + id + ",size=" + std::to_string(mib) + "M");
    tell_monitor("device_add pc-dimm,id=" + id + ",memdev=mem-" + id + ",node=" + std::to_string(node));
    wait_until("memory in node " + std::to_string(node), [&] {
        auto blocks = memory_blocks(node);
        auto nodes = online_nodes();
        return blocks.size() == before + more && std::ranges::all_of(blocks, is_online) &&
               std::ranges::find(nodes, node) != nodes.end();
    });
}

void pull_memory(const std::string& id, int node) {
    size_t before = memory_blocks(node).size();
    tell_monitor("device_del " + id);
    wait_until("memory out of node " + std::to_string(node), [&] {
        auto blocks = memory_blocks(node);
        auto nodes = online_nodes();
        bool gone = std::ranges::find(nodes, node) == nodes.end();
        return blocks.size() < before && (gone || !blocks.empty());
    });
    tell_monitor("object_del mem-" + id);
}

std::vector<int> memory_blocks(int node) {
    std::vector<int> blocks;
    std::error_code error;
    for (auto& entry :
         std::filesystem::directory_iterator(std::string(kNodes) + "/node" + std::to_string(node), error)) {
        std::string name = entry.path().filename();
        if (name.rfind("memory", 0) == 0 && name.size() > 6 && std::isdigit(name[6]) != 0)
            blocks.push_back(std::stoi(name.substr(6)));
    }
    std::sort(blocks.begin(), blocks.end());
    return blocks;
}

int set_block_online(int block, bool online, unsigned seconds) {
    std::string path = std::string(kBlocks) + "/memory" + std::to_string(block) + "/state";
    Fd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    if (!fd) return errno;
    const std::string_view state = online ? "online_movable" : "offline";
    pid_t child = ::fork();
    if (child < 0) return errno;
    if (child == 0) {
        // Without a handler, and so without SA_RESTART: the signal ends the child when the call has given up.
        ::alarm(seconds);
        ::_exit(::write(fd.get(), state.data(), state.size()) < 0 ? errno : 0);
    }
    int status = 0;
    while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : ETIMEDOUT;
}

void show_stacks() {
    for (const auto& process : std::filesystem::directory_iterator("/proc")) {
        std::error_code gone;
        for (const auto& task : std::filesystem::directory_iterator(process.path() / "task", gone)) {
            std::ifstream in(task.path() / "stack");
            std::stringstream stack;
            stack << in.rdbuf();
            if (stack.str().empty()) continue;
            std::cerr << task.path().string() << " " << first_line(task.path() / "comm") << " "
                      << first_line(task.path() / "wchan") << "\n"
                      << stack.str();
        }
    }
    std::ofstream("/proc/sys/kernel/printk") << 8;
    for (char what : {'w', 'l'}) std::ofstream("/proc/sysrq-trigger") << what << std::flush;
}

}  // namespace tierd::guest
