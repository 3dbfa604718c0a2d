#include "cli/tierctl/places.h"

#include <filesystem>
#include <initializer_list>

namespace tierd {
namespace {

// A program in PREFIX/bin has them in PREFIX/...
std::string beside_programs(std::initializer_list<const char*> folders, const char* usual) {
    std::error_code error;
    auto prefix = std::filesystem::read_symlink("/proc/self/exe", error).parent_path().parent_path();
    for (const char* folder : folders)
        if (std::filesystem::is_directory(prefix / folder, error)) return prefix / folder;
    return usual;
}

}  // namespace

std::string policy_folder() {
    return beside_programs({"lib/tierd/policies", "policies"}, "/usr/lib/tierd/policies");
}

std::string include_folder() {
    return beside_programs({"include/tierd"}, "/usr/include/tierd");
}

}  // namespace tierd
