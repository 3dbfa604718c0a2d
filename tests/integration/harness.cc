// harness.cc - see harness.h.
#include "tests/integration/harness.h"

#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/magic.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <set>
#include <sstream>
#include <stdexcept>
#include <system_error>

#include "lib/base/bytes.h"
#include "lib/base/clock.h"
#include "tests/integration/pattern.h"

extern char** environ;

namespace tierd::itest {
namespace {

constexpr uint64_t kChunkBytes = 4 * kMiB;
constexpr int kPassedFd = 3;

[[noreturn]] void throw_errno(const std::string& what) {
    throw std::system_error(errno, std::generic_category(), what);
}

Fd open_or_throw(const std::string& path, int flags) {
    Fd fd(open(path.c_str(), flags | O_CLOEXEC, 0644));
    if (!fd) throw_errno(path);
    return fd;
}

void write_pattern(const Fd& file, uint64_t seed, uint64_t offset, uint64_t length) {
    std::vector<char> chunk(kChunkBytes);
    for (uint64_t done = 0; done < length;) {
        const uint64_t part = std::min(kChunkBytes, length - done);
        fill_pattern(seed, offset + done, chunk.data(), part);
        const ssize_t written = pwrite(file.get(), chunk.data(), part, off_t(offset + done));
        if (written != ssize_t(part)) throw_errno("write weight file");
        done += part;
    }
}

void flush_and_forget(const Fd& file) {
    if (fdatasync(file.get()) != 0) throw_errno("flush weight file");
    posix_fadvise(file.get(), 0, 0, POSIX_FADV_DONTNEED);
}

std::string tail_of(const std::string& path) {
    const std::string text = text_of(path);
    return text.size() > 2000 ? text.substr(text.size() - 2000) : text;
}

std::pair<Fd, Fd> make_pipe() {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) throw_errno("pipe");
    return {Fd(ends[0]), Fd(ends[1])};
}

// The first end is written with MSG_NOSIGNAL: a reader that died must fail a test, not end it with SIGPIPE.
std::pair<Fd, Fd> make_socket_pair() {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) throw_errno("socketpair");
    return {Fd(ends[0]), Fd(ends[1])};
}

bool readable_within(int fd, int timeout_ms) {
    pollfd wanted{fd, POLLIN, 0};
    int ready;
    while ((ready = poll(&wanted, 1, timeout_ms)) < 0 && errno == EINTR) {
    }
    return ready > 0;
}

std::vector<char*> pointers(std::vector<std::string>& words) {
    std::vector<char*> out;
    for (std::string& word : words) out.push_back(word.data());
    out.push_back(nullptr);
    return out;
}

// Runs in the forked child: only calls that are safe there.
void become_child(const Process::Plan& plan, int in, int out, int log, char** argv, char** envp) {
    if (plan.user != 0 && (setgroups(0, nullptr) != 0 || setgid(plan.user) != 0 || setuid(plan.user) != 0))
        _exit(126);
    dup2(in, STDIN_FILENO);
    dup2(out, STDOUT_FILENO);
    dup2(log, STDERR_FILENO);
    if (plan.pass == kPassedFd) fcntl(kPassedFd, F_SETFD, 0);
    if (plan.pass >= 0 && plan.pass != kPassedFd) dup2(plan.pass, kPassedFd);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    execve(argv[0], argv, envp);
    _exit(127);
}

}  // namespace

std::string build_dir() {
    if (const char* told = std::getenv("TIERD_BUILD_DIR")) return told;
    return std::filesystem::read_symlink("/proc/self/exe").parent_path().parent_path();
}
std::string programs_dir() {
    const char* told = std::getenv("TIERD_PROGRAMS_DIR");
    return told ? told : build_dir();
}
std::string reader_program() {
    return build_dir() + "/tests/tierd_reader";
}
std::string plugin_library() {
    return build_dir() + "/tests/libtierd_reader_plugin.so";
}

void skip_program(const std::string& reason) {
    std::cout << "skipped: " << reason << std::endl;
    _exit(77);
}

WorkDir::WorkDir() {
    const char* told = std::getenv("TMPDIR");
    const std::string parent = told ? told : build_dir() + "/tests/tmp";
    std::filesystem::create_directories(parent);
    path_ = parent + "/tierd-XXXXXX";
    if (!mkdtemp(path_.data())) throw_errno(path_);
    chmod(path_.c_str(), 0755);
}

WorkDir::~WorkDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
}

std::string text_of(const std::string& path) {
    std::ifstream file(path);
    std::ostringstream all;
    all << file.rdbuf();
    return all.str();
}

void make_file(const std::string& path, uint64_t seed, uint64_t bytes) {
    const Fd file = open_or_throw(path, O_WRONLY | O_CREAT | O_TRUNC);
    write_pattern(file, seed, 0, bytes);
    flush_and_forget(file);
}

void make_island_file(const std::string& path, uint64_t seed, uint64_t bytes,
                      const std::vector<uint64_t>& offsets, uint64_t length_bytes) {
    const Fd file = open_or_throw(path, O_WRONLY | O_CREAT | O_TRUNC);
    if (ftruncate(file.get(), off_t(bytes)) != 0) throw_errno(path);
    for (uint64_t offset : offsets) write_pattern(file, seed, offset, length_bytes);
    flush_and_forget(file);
}

void rewrite(const std::string& path, uint64_t seed, uint64_t offset_bytes, uint64_t length_bytes) {
    write_pattern(open_or_throw(path, O_WRONLY), seed, offset_bytes, length_bytes);
}

uint64_t wrong_bytes_in_file(const std::string& path, uint64_t seed, uint64_t offset_bytes) {
    const Fd file = open_or_throw(path, O_RDONLY);
    std::vector<char> chunk(kChunkBytes);
    uint64_t wrong = 0;
    uint64_t at = 0;
    for (ssize_t got; (got = pread(file.get(), chunk.data(), chunk.size(), off_t(at))) > 0;
         at += uint64_t(got))
        wrong += count_wrong(seed, offset_bytes + at, chunk.data(), size_t(got));
    return wrong;
}

void drop_cache(const std::string& path) {
    flush_and_forget(open_or_throw(path, O_RDONLY));
}

int run_program(const std::vector<std::string>& argv, const std::string& log) {
    Process::Plan plan;
    plan.argv = argv;
    plan.log = log;
    return Process(plan).wait();
}

Process::Process(const Plan& plan) {
    const Fd nothing = open_or_throw("/dev/null", O_RDWR);
    const Fd log = open_or_throw(plan.log, O_WRONLY | O_CREAT | O_APPEND);
    std::vector<std::string> words = plan.argv;
    std::vector<std::string> environment;
    for (char** e = environ; *e; ++e) environment.push_back(*e);
    environment.insert(environment.end(), plan.environment.begin(), plan.environment.end());
    const auto argv = pointers(words);
    const auto envp = pointers(environment);
    const int in = plan.in >= 0 ? plan.in : nothing.get();
    const int out = plan.out >= 0 ? plan.out : log.get();
    pid_ = fork();
    if (pid_ == 0)
        become_child(plan, in, out, log.get(), const_cast<char**>(argv.data()),
                     const_cast<char**>(envp.data()));
    if (pid_ < 0) throw_errno("fork");
}

Process::~Process() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
}

bool Process::running() {
    siginfo_t info = {};
    if (pid_ <= 0 || waitid(P_PID, id_t(pid_), &info, WEXITED | WNOHANG | WNOWAIT) != 0) return false;
    return info.si_pid == 0;
}

void Process::send(int signal) const {
    if (::kill(pid_, signal) != 0) throw_errno("signal a process");
}

int Process::wait() {
    int status = 0;
    while (waitpid(pid_, &status, 0) < 0)
        if (errno != EINTR) throw_errno("wait for a process");
    pid_ = -1;
    return status;
}

Process Daemon::start(const WorkDir& dir, const DaemonPlan& plan, const std::string& socket,
                      const std::string& control) {
    auto [ready, tell] = make_pipe();
    Process::Plan how;
    how.argv = {programs_dir() + "/bin/tierd",
                "--socket",
                socket,
                "--control-socket",
                control,
                "--state-dir",
                dir.file("state"),
                "--budget",
                plan.budget,
                "--ready-fd",
                std::to_string(kPassedFd)};
    how.argv.insert(how.argv.end(), plan.options.begin(), plan.options.end());
    if (!plan.wrapper.empty()) {
        how.argv.insert(how.argv.begin(), plan.wrapper.begin(), plan.wrapper.end());
        how.argv.insert(how.argv.begin(), "/usr/bin/env");  // finds the wrapper by its name
    }
    if (!plan.config.empty()) {
        std::ofstream(dir.file("tierd.toml")) << plan.config;
        how.argv.insert(how.argv.end(), {"--config", dir.file("tierd.toml")});
    }
    how.log = dir.file("tierd.log");
    how.pass = tell.get();
    Process process(how);
    tell.reset();
    char byte = 0;
    if (!readable_within(ready.get(), 20'000) || read(ready.get(), &byte, 1) != 1 || byte != '1')
        throw std::runtime_error("tierd is not ready:\n" + tail_of(how.log));
    return process;
}

Daemon::Daemon(const WorkDir& dir, const DaemonPlan& plan)
    : socket_(dir.file("tierd.sock")),
      control_(dir.file("control.sock")),
      log_(dir.file("tierd.log")),
      process_(start(dir, plan, socket_, control_)) {}

int Daemon::stop() {
    send(SIGTERM);
    return wait();
}

Daemon::Reply Daemon::ask(const std::string& method, const std::string& resource,
                          const std::string& body) const {
    const Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    control_.copy(address.sun_path, sizeof(address.sun_path) - 1);
    if (connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0)
        throw_errno(control_);
    const std::string request = method + " " + resource +
                                " HTTP/1.1\r\nHost: tierd\r\nConnection: close\r\n" +
                                "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
    for (size_t sent = 0; sent < request.size();) {
        const ssize_t part = ::send(socket.get(), request.data() + sent, request.size() - sent, MSG_NOSIGNAL);
        if (part <= 0) throw_errno("ask tierd");
        sent += size_t(part);
    }
    std::string answer;
    char part[4096];
    while (readable_within(socket.get(), 20'000)) {
        const ssize_t got = read(socket.get(), part, sizeof(part));
        if (got <= 0) break;
        answer.append(part, size_t(got));
    }
    const size_t head = answer.find("\r\n\r\n");
    if (answer.rfind("HTTP/1.1 ", 0) != 0 || head == std::string::npos)
        throw std::runtime_error(method + " " + resource + ": " + answer + "\n" + tail_of(log_));
    return {std::stoi(answer.substr(9, 3)), Json::parse(answer.substr(head + 4))};
}

Json Daemon::get(const std::string& resource) const {
    const Reply reply = ask("GET", resource);
    if (reply.status != 200) throw std::runtime_error("GET " + resource + ": " + reply.body.dump());
    return reply.body;
}

uint64_t Daemon::counter(const std::string& name) const {
    return status().at("counters").at(name);
}

Process ReaderProcess::start(const WorkDir& dir, const ReaderPlan& plan, Fd& to, Fd& from) {
    auto [tell, in] = make_socket_pair();
    auto [receive, out] = make_pipe();
    Process::Plan how;
    how.argv = {reader_program()};
    how.log = dir.file("reader.log");
    how.in = in.get();
    how.out = out.get();
    how.user = plan.user;
    if (!plan.socket.empty())
        how.environment = {"LD_PRELOAD=" + programs_dir() + "/lib/libtierd_shim.so",
                           "TIERD_SOCKET=" + plan.socket, std::string("TIERD_MATCH=") + kMatch};
    to = std::move(tell);
    from = std::move(receive);
    return Process(how);
}

ReaderProcess::ReaderProcess(const WorkDir& dir, const ReaderPlan& plan)
    : log_(dir.file("reader.log")), process_(start(dir, plan, to_, from_)) {}

void ReaderProcess::send(const std::string& line) {
    const std::string whole = line + "\n";
    if (::send(to_.get(), whole.data(), whole.size(), MSG_NOSIGNAL) != ssize_t(whole.size()))
        throw_errno("tell the reader");
}

Json ReaderProcess::receive(unsigned seconds) {
    const uint64_t deadline_ns = monotonic_ns() + seconds * kNsPerSecond;
    size_t end;
    while ((end = received_.find('\n')) == std::string::npos) {
        const uint64_t now = monotonic_ns();
        if (now >= deadline_ns || !readable_within(from_.get(), int((deadline_ns - now) / kNsPerMs) + 1))
            throw std::runtime_error("the reader does not answer:\n" + tail_of(log_));
        char part[4096];
        const ssize_t got = read(from_.get(), part, sizeof(part));
        if (got <= 0)
            throw std::runtime_error("the reader died, status " + std::to_string(process_.wait()) + ":\n" +
                                     tail_of(log_));
        received_.append(part, size_t(got));
    }
    const Json answer = Json::parse(received_.substr(0, end));
    received_.erase(0, end + 1);
    if (answer.contains("error")) throw std::runtime_error(answer.at("error").get<std::string>());
    return answer;
}

int ReaderProcess::finish() {
    to_.reset();
    return process_.wait();
}

std::vector<Fd> arenas_of(pid_t daemon) {
    const std::string folder = "/proc/" + std::to_string(daemon) + "/fd";
    std::vector<Fd> arenas;
    std::set<ino_t> seen;
    std::error_code ended;
    for (const auto& entry : std::filesystem::directory_iterator(folder, ended)) {
        Fd fd(open(entry.path().c_str(), O_PATH | O_CLOEXEC));
        struct stat st = {};
        struct statfs fs = {};
        if (!fd || fstat(fd.get(), &st) != 0 || fstatfs(fd.get(), &fs) != 0) continue;
        const bool memory = fs.f_type == TMPFS_MAGIC || fs.f_type == HUGETLBFS_MAGIC;
        const bool more_than_a_page = st.st_size > off_t(kPageBytes);  // the heartbeat is one page
        if (memory && S_ISREG(st.st_mode) && more_than_a_page && seen.insert(st.st_ino).second)
            arenas.push_back(std::move(fd));
    }
    return arenas;
}

ArenaSampler::ArenaSampler(pid_t daemon) : daemon_(daemon), thread_([this] { run(); }) {}

ArenaSampler::~ArenaSampler() {
    stop();
}

void ArenaSampler::stop() {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
}

void ArenaSampler::run() {
    std::vector<Fd> arenas;
    for (uint64_t round = 0; !stop_; ++round) {
        if (round % 100 == 0) arenas = arenas_of(daemon_);
        uint64_t sum = 0;
        for (const Fd& arena : arenas) {
            struct stat st = {};
            if (fstat(arena.get(), &st) == 0) sum += uint64_t(st.st_blocks) * 512;
        }
        peak_bytes_ = std::max<uint64_t>(peak_bytes_, sum);
        ++samples_;
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
}

bool all_right(const Json& told) {
    return told.at("wrong") == 0u && told.at("sigbus") == 0u;
}

bool maps_file(pid_t pid, const std::string& path) {
    std::ifstream maps("/proc/" + std::to_string(pid) + "/maps");
    for (std::string line; std::getline(maps, line);)
        if (line.find(path) != std::string::npos) return true;
    return false;
}

bool holds_userfaultfd(pid_t pid) {
    std::error_code ended;
    for (const auto& entry :
         std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/fd", ended))
        if (std::filesystem::read_symlink(entry.path(), ended) == "anon_inode:[userfaultfd]") return true;
    return false;
}

uint64_t huge_mapped_bytes(pid_t pid) {
    std::ifstream smaps("/proc/" + std::to_string(pid) + "/smaps");
    uint64_t bytes = 0;
    for (std::string line; std::getline(smaps, line);)
        if (line.find("ShmemPmdMapped:") == 0) bytes += std::stoull(line.substr(15)) * kKiB;
    return bytes;
}

uint64_t counted(const Json& list, const std::string& name) {
    for (const Json& row : list)
        if (row.at("name") == name) return row.at("count");
    throw std::runtime_error("nothing is counted as " + name);
}

bool is_all(const Json& backing, const std::string& what) {
    const Json& runs = backing.at("runs");
    return !runs.empty() &&
           std::all_of(runs.begin(), runs.end(), [&](const Json& run) { return run.at("what") == what; });
}

}  // namespace tierd::itest
