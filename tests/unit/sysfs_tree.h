// sysfs_tree.h - a folder that looks like /sys, made from a recorded list: "path|text" (\n in it ends a line) or
// "path -> target"; lines with # are comments.
#pragma once

#include <boost/test/unit_test.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

namespace tierd::test {

class SysfsTree {
  public:
    // `recorded`: the list's name; empty: a tree without files.
    explicit SysfsTree(const std::string& recorded = {}) {
        std::string name = (std::filesystem::temp_directory_path() / "tierd-sysfs-XXXXXX").string();
        BOOST_REQUIRE(::mkdtemp(name.data()) != nullptr);
        root_ = name;
        if (recorded.empty()) return;
        std::ifstream in(std::string(TIERD_SOURCE_DIR "/tests/unit/sysfs/") + recorded + ".txt");
        BOOST_REQUIRE(in.good());
        for (std::string line; std::getline(in, line);) add(line);
    }
    ~SysfsTree() { std::filesystem::remove_all(root_); }
    SysfsTree(const SysfsTree&) = delete;

    void add(const std::string& line) {
        if (line.empty() || line[0] == '#') return;
        if (size_t arrow = line.find(" -> "); arrow != std::string::npos) {
            auto link = root_ / line.substr(0, arrow);
            std::filesystem::create_directories(link.parent_path());
            return std::filesystem::create_symlink(line.substr(arrow + 4), link);
        }
        size_t bar = line.find('|');
        auto file = root_ / line.substr(0, bar);
        std::filesystem::create_directories(file.parent_path());
        std::string text = line.substr(bar + 1);
        for (size_t at; (at = text.find("\\n")) != std::string::npos;) text.replace(at, 2, "\n");
        std::ofstream(file) << text << '\n';
    }
    std::string root() const { return root_.string(); }

  private:
    std::filesystem::path root_;
};

}  // namespace tierd::test
