#include "lib/tier/sysfs.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <filesystem>

#include "lib/base/fd.h"

namespace tierd {

namespace {

constexpr size_t kMostBytes = 64 * 1024;
constexpr size_t kMostMembers = 4096;

std::optional<int> take_number(std::string_view& text) {
    int number = 0;
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc() || number < 0) return std::nullopt;
    text.remove_prefix(static_cast<size_t>(end - text.data()));
    return number;
}

}  // namespace

std::string read_sysfs_text(const std::string& path) {
    auto file = open_file(path, O_RDONLY);
    if (!file) return {};
    std::string text(kMostBytes, '\0');
    size_t filled = 0;
    while (filled < text.size()) {
        ssize_t got = ::read(file->get(), text.data() + filled, text.size() - filled);
        if (got <= 0) break;
        filled += static_cast<size_t>(got);
    }
    text.resize(filled);
    return text;
}

std::string read_sysfs_line(const std::string& path) {
    std::string text = read_sysfs_text(path);
    return text.substr(0, text.find('\n'));
}

std::optional<uint64_t> read_sysfs_number(const std::string& path) {
    std::string line = read_sysfs_line(path);
    uint64_t number = 0;
    auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), number);
    if (error != std::errc() || end != line.data() + line.size()) return std::nullopt;
    return number;
}

std::vector<int> parse_cpu_list(std::string_view list) {
    std::vector<int> members;
    while (auto from = take_number(list)) {
        int to = *from;
        if (list.starts_with('-')) {
            list.remove_prefix(1);
            auto last = take_number(list);
            if (!last) break;
            to = *last;
        }
        for (int64_t member = *from; member <= to && members.size() < kMostMembers; member++)
            members.push_back(static_cast<int>(member));
        if (!list.starts_with(',')) break;
        list.remove_prefix(1);
    }
    return members;
}

std::optional<int> number_after(std::string_view name, std::string_view prefix) {
    if (!name.starts_with(prefix)) return std::nullopt;
    name.remove_prefix(prefix.size());
    auto number = take_number(name);
    return name.empty() ? number : std::nullopt;
}

std::vector<std::string> list_folder(const std::string& path) {
    std::vector<std::string> names;
    std::error_code error;
    std::filesystem::directory_iterator at(path, error), end;
    for (; !error && at != end; at.increment(error)) names.push_back(at->path().filename());
    std::ranges::sort(names);
    return names;
}

}  // namespace tierd
