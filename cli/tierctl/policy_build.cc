#include "cli/tierctl/policy_build.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <sstream>
#include <vector>

#include "cli/tierctl/places.h"
#include "cli/tierctl/text.h"
#include "lib/base/bytes.h"
#include "lib/base/fd.h"
#include "lib/rules/rules_object.h"
#include "lib/rules/rules_toml.h"

namespace tierd {
namespace {

using Built = std::expected<std::string, Failure>;

constexpr size_t kMostBytes = 4 * kMiB;  // of a source, and of an object

std::unexpected<Failure> failed(std::string text, Exit exit = Exit::failed) {
    return std::unexpected(Failure{exit, std::move(text)});
}

Result<std::string> read_file(const std::string& path) {
    auto file = open_file(path, O_RDONLY);
    if (!file) return std::unexpected(file.error());
    std::string bytes(kMostBytes + 1, '\0');
    size_t filled = 0;
    while (filled < bytes.size()) {
        ssize_t got = ::read(file->get(), bytes.data() + filled, bytes.size() - filled);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return os_error("read", path, Code::io);
        if (got == 0) break;
        filled += static_cast<size_t>(got);
    }
    if (filled > kMostBytes)
        return fail(Code::bad_input, "read", path, "it is larger than 4 MiB; is it the right file?");
    bytes.resize(filled);
    return bytes;
}

// Whole or not at all: a tierd may be loading the object of before.
Result<void> replace_file(const std::string& path, const std::string& bytes) {
    std::string beside = path + ".new";
    Fd file(::open(beside.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    if (!file) return os_error("write", beside);
    for (size_t done = 0; done < bytes.size();) {
        ssize_t put = ::write(file.get(), bytes.data() + done, bytes.size() - done);
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) {
            auto error = os_error("write", beside, Code::io);
            ::unlink(beside.c_str());
            return error;
        }
        done += static_cast<size_t>(put);
    }
    if (::rename(beside.c_str(), path.c_str()) != 0) return os_error("write", path);
    return {};
}

// Names and texts of the file go to a terminal.
void print_notes(const CompiledRules& rules, const std::string& source) {
    std::istringstream lines(notes_text(rules.notes, source));
    for (std::string line; std::getline(lines, line);) fmt::print(stderr, "{}\n", escape(line));
}

Built build_rules(const PolicyBuild& build) {
    auto text = read_file(build.source);
    if (!text) return failed(text.error().text());
    CompiledRules rules = compile_rules(*text, machine_lookups());
    print_notes(rules, build.source);
    if (!rules.usable()) return failed(fmt::format("{} is not built", build.source));
    std::string shipped = policy_folder() + "/rules.bpf.o";
    auto object = read_file(shipped);
    if (!object) return failed(object.error().text());
    auto filled = put_rules(std::move(*object), rules.table);
    if (!filled) return failed(fmt::format("{}: {}", shipped, filled.error().text()));
    if (auto written = replace_file(build.object, *filled); !written) return failed(written.error().text());
    return fmt::format("{}: {} rule{}\n", escape(build.object), rules.rules, rules.rules == 1 ? "" : "s");
}

// Its exit status, or a negative errno when it could not be started.
int run_program(std::vector<std::string> words) {
    std::vector<char*> arguments;
    for (std::string& word : words) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    pid_t child = -1;
    int refused = ::posix_spawnp(&child, arguments[0], nullptr, nullptr, arguments.data(), environ);
    if (refused != 0) return -refused;
    int status = 0;
    while (::waitpid(child, &status, 0) < 0)
        if (errno != EINTR) return -errno;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

Built build_program(const PolicyBuild& build) {
    std::vector<std::string> compilers = {"clang-19", "clang"};
    if (const char* chosen = std::getenv("TIERD_CLANG")) compilers = {chosen};
    int status = -ENOENT;
    for (const std::string& compiler : compilers) {
        status = run_program({compiler, "-target", "bpf", "-O2", "-g", "-Wall", "-I" + include_folder(),
                              "-I/usr/include/" TIERD_LIBRARY_ARCHITECTURE, "-c", build.source, "-o",
                              build.object});
        if (status != -ENOENT) break;
    }
    if (status == -ENOENT)
        return failed(fmt::format("there is no {}; apt install clang-19, or name one in TIERD_CLANG",
                                  compilers.front()));
    if (status < 0) return failed(fmt::format("run clang: {}", std::strerror(-status)));
    if (status != 0) return failed(fmt::format("{} is not built", build.source));
    return fmt::format("{}\n", escape(build.object));
}

}  // namespace

std::expected<std::string, Failure> run_policy_build(const PolicyBuild& asked) {
    PolicyBuild build = asked;
    std::string stem = build.source.substr(0, build.source.rfind('.'));
    bool is_rules = build.source.ends_with(".toml"), is_program = build.source.ends_with(".c");
    if (!is_rules && !is_program)
        return failed(
            fmt::format("build {}: write rules in NAME.toml, or a policy in NAME.bpf.c", build.source),
            Exit::usage);
    if (stem.ends_with(".bpf")) stem.resize(stem.size() - 4);
    if (build.object.empty()) build.object = stem + ".bpf.o";
    // A name that begins with a dash is no option of clang's.
    if (build.source.starts_with('-')) build.source.insert(0, "./");
    return is_rules ? build_rules(build) : build_program(build);
}

}  // namespace tierd
