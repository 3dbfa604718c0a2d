// reader.cc - tierd_reader's main: reads commands, one a line, and answers each with one line of JSON.
//
//   tierd_reader                     commands from standard input until its end
//   tierd_reader COMMAND...          each argument is a command; exit status 1 when any byte was wrong or a
//   command failed
#include "tests/integration/reader.h"

#include <cstdio>
#include <iostream>
#include <sstream>
#include <stdexcept>

namespace tierd::itest {
namespace {

struct Row {
    const char* name;
    Json (*run)(Reader&, const Command&);
};

constexpr Row kCommands[] = {
    {"map", map_file},
    {"map-by-plugin", map_by_plugin},
    {"verify", verify},
    {"write", write_pages},
    {"verify-writes", verify_writes},
    {"fork-verify", fork_verify},
    {"fork-verify-writes", fork_verify_writes},
    {"spawn-verify", spawn_verify},
    {"vfork-verify", vfork_verify},
    {"clone-exit", clone_and_exit},
    {"munmap", unmap},
    {"mremap", remap},
    {"mprotect", protect},
    {"madvise", advise},
    {"mlock", lock},
    {"msync", sync},
    {"map-zeros-over", map_zeros_over},
    {"write-out", write_out},
    {"read-in", read_in},
    {"backing", backing},
};

Json run(Reader& reader, const std::string& line) {
    try {
        const Command command(line);
        for (const Row& row : kCommands)
            if (command.name() == row.name) return row.run(reader, command);
        return {{"error", "unknown command " + command.name()}};
    } catch (const std::exception& e) {
        return {{"error", line + ": " + e.what()}};
    }
}

uint64_t to_number(const std::string& key, const std::string& text) {
    size_t used = 0;
    const uint64_t value = std::stoull(text, &used, 0);
    if (used != text.size()) throw std::runtime_error(key + "=" + text + " is not a number");
    return value;
}

}  // namespace

Command::Command(const std::string& line) {
    std::istringstream words(line);
    words >> name_;
    for (std::string word; words >> word;) {
        const size_t equals = word.find('=');
        values_[word.substr(0, equals)] = equals == std::string::npos ? "1" : word.substr(equals + 1);
    }
}

uint64_t Command::number(const std::string& key) const {
    return to_number(key, text(key));
}

uint64_t Command::number(const std::string& key, uint64_t otherwise) const {
    return has(key) ? number(key) : otherwise;
}

std::string Command::text(const std::string& key) const {
    const auto found = values_.find(key);
    if (found == values_.end()) throw std::runtime_error(key + "= is missing");
    return found->second;
}

std::string Command::text(const std::string& key, const std::string& otherwise) const {
    return has(key) ? text(key) : otherwise;
}

MappedFile& Reader::map_of(const Command& command) {
    return maps.at(command.number("map", 0));
}

}  // namespace tierd::itest

int main(int argc, char** argv) {
    using namespace tierd::itest;
    install_sigbus_handler();
    Reader reader;
    bool failed = false;
    auto answer = [&](const std::string& line) {
        const Json reply = run(reader, line);
        failed |= reply.contains("error") || reply.value("wrong", uint64_t{0}) != 0 ||
                  reply.value("sigbus", uint64_t{0}) != 0 || reply.value("result", 0) != 0;
        std::cout << reply.dump() << std::endl;
    };
    for (int i = 1; i < argc; ++i) answer(argv[i]);
    if (argc > 1) return failed ? 1 : 0;
    for (std::string line; std::getline(std::cin, line);) answer(line);
    return 0;
}
