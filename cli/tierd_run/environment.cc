#include "cli/tierd_run/environment.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <string_view>

namespace tierd::run {
namespace {

constexpr const char* kShim = "libtierd_shim.so";

bool sets(const std::string& entry, std::string_view name) {
    return entry.size() > name.size() && entry.starts_with(name) && entry[name.size()] == '=';
}

void remove(std::vector<std::string>& entries, std::string_view name) {
    std::erase_if(entries, [name](const std::string& entry) { return sets(entry, name); });
}

void replace(std::vector<std::string>& entries, const std::string& name, const std::string& value) {
    remove(entries, name);
    entries.push_back(name + "=" + value);
}

std::string text_of(const char* name) {
    const char* value = std::getenv(name);
    return value == nullptr ? "" : value;
}

std::filesystem::path own_folder() {
    std::error_code error;
    return std::filesystem::read_symlink("/proc/self/exe", error).parent_path();
}

std::string join(const std::vector<std::string>& parts) {
    std::string all;
    for (const std::string& part : parts) all += (all.empty() ? "" : ":") + part;
    return all;
}

}  // namespace

std::vector<std::string> environment() {
    std::vector<std::string> entries;
    for (char** entry = environ; *entry != nullptr; ++entry) entries.emplace_back(*entry);
    return entries;
}

std::vector<std::string> environment_of_command(const Connection& connection) {
    std::vector<std::string> entries = environment();
    std::string preloaded = text_of("LD_PRELOAD");
    replace(entries, "LD_PRELOAD", connection.shim + (preloaded.empty() ? "" : ":" + preloaded));
    replace(entries, "TIERD_SOCKET", connection.socket);
    replace(entries, "TIERD_CONTROL_SOCKET", connection.control_socket);
    if (!connection.match.empty()) replace(entries, "TIERD_MATCH", join(connection.match));
    return entries;
}

std::vector<std::string> environment_of_daemon() {
    std::vector<std::string> entries = environment();
    for (const char* name : {"LD_PRELOAD", "TIERD_SOCKET", "TIERD_CONTROL_SOCKET", "TIERD_MATCH",
                             "NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID"})
        remove(entries, name);
    return entries;
}

std::string find_daemon() {
    if (auto beside = own_folder() / "tierd"; ::access(beside.c_str(), X_OK) == 0) return beside;
    std::istringstream folders(text_of("PATH"));
    for (std::string folder; std::getline(folders, folder, ':');)
        if (std::string path = folder + "/tierd"; !folder.empty() && ::access(path.c_str(), X_OK) == 0)
            return path;
    return {};
}

std::string find_shim() {
    auto beside = own_folder().parent_path() / "lib";
    for (const std::filesystem::path& folder :
         {beside, beside / "tierd", std::filesystem::path("/usr/lib/tierd"),
          std::filesystem::path("/usr/local/lib/tierd")})
        if (auto path = folder / kShim; ::access(path.c_str(), R_OK) == 0) return path;
    return {};
}

}  // namespace tierd::run
