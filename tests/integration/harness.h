// harness.h - what the integration tests stand on: real processes, real files, and looks at the daemon from
// outside.
//
// Owns:      the processes it started (ended and reaped by their id when the object goes) and the files it
//            made (removed).
// Invariant: nothing here trusts tierd's own account of itself where the kernel has one: resident memory is
//            what the kernel counts for the arenas.
// Callers:   the test's main thread; ArenaSampler has a thread of its own.
// Fails:     throws std::runtime_error with the text of the log: to a test that is a failure with its reason.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "lib/base/fd.h"

namespace tierd::itest {

using Json = nlohmann::json;

// Where the build put its programs: $TIERD_BUILD_DIR, else the folder above the one this test lies in.
std::string build_dir();
// The build that tierd, its commands and the preloaded library come from: another one, with a sanitizer perhaps, where
// TIERD_PROGRAMS_DIR says so; else build_dir().
std::string programs_dir();
std::string reader_program();
std::string plugin_library();

// The names of weight files that the readers are told to hand to tierd.
inline constexpr const char* kMatch = "*.weights";
inline constexpr uid_t kNobody = 65534;

// Ends the test program as skipped, with the reason as its last line. For programs of which nothing can be
// tested here.
[[noreturn]] void skip_program(const std::string& reason);

// A folder of its own beneath $TMPDIR or build/tests/tmp, removed with all it holds.
class WorkDir {
  public:
    WorkDir();
    ~WorkDir();
    WorkDir(WorkDir&&) = delete;
    std::string file(const std::string& name) const { return path_ + "/" + name; }

  private:
    std::string path_;
};

// All of a file; empty where it can't be read.
std::string text_of(const std::string& path);

// Writes a file of pattern bytes (pattern.h) through to the disk. make_island_file writes only [offset,
// offset + length) for each offset; the rest is a hole.
void make_file(const std::string& path, uint64_t seed, uint64_t bytes);
void make_island_file(const std::string& path, uint64_t seed, uint64_t bytes,
                      const std::vector<uint64_t>& offsets, uint64_t length_bytes);
// Overwrites bytes of an existing file with those of another seed. `offset_bytes` is a multiple of 8.
void rewrite(const std::string& path, uint64_t seed, uint64_t offset_bytes, uint64_t length_bytes);
// Number of bytes of the file that differ from the pattern at `offset_bytes` on, as read(2) sees them.
uint64_t wrong_bytes_in_file(const std::string& path, uint64_t seed, uint64_t offset_bytes);
// Makes the kernel forget the file's pages, so that the next read comes from the disk.
void drop_cache(const std::string& path);
// Runs a program to its end and returns its exit status; its output goes to the log file.
int run_program(const std::vector<std::string>& argv, const std::string& log);

// A child process.
class Process {
  public:
    struct Plan {
        std::vector<std::string> argv;
        std::vector<std::string> environment;  // added to this process's
        std::string log;                       // where its standard error goes, appended
        int in = -1;                           // becomes its standard input; -1: /dev/null
        int out = -1;                          // becomes its standard output; -1: the log
        int pass = -1;                         // becomes descriptor 3; -1: none
        uid_t user = 0;                        // whose id and group it takes; 0: stays as it is
    };
    explicit Process(const Plan& plan);
    ~Process();
    Process(Process&& other) noexcept : pid_(std::exchange(other.pid_, -1)) {}

    pid_t pid() const { return pid_; }
    bool running();  // reaps nothing
    void send(int signal) const;
    int wait();  // waitpid's status

  private:
    pid_t pid_;
};

struct DaemonPlan {
    std::string budget = "256MiB";
    std::vector<std::string> options = {};  // more of the command line
    std::string config = {};                // TOML; empty: none
    std::vector<std::string> wrapper = {};  // a command that becomes tierd; empty: none
};

// A tierd of the test's own, ready to serve when the constructor returns.
class Daemon {
  public:
    explicit Daemon(const WorkDir& dir, const DaemonPlan& plan = {});

    pid_t pid() const { return process_.pid(); }
    void send(int signal) const { process_.send(signal); }
    int stop();  // SIGTERM, then waits. Returns waitpid's status
    int wait() { return process_.wait(); }
    bool running() { return process_.running(); }
    const std::string& socket() const { return socket_; }

    struct Reply {
        int status = 0;  // HTTP's
        Json body;
    };
    // One request over the control socket.
    Reply ask(const std::string& method, const std::string& resource, const std::string& body = {}) const;
    Json get(const std::string& resource) const;  // throws when it is not answered with 200
    Json status() const { return get("/v1/status"); }
    // One counter of the status by its name.
    uint64_t counter(const std::string& name) const;

  private:
    static Process start(const WorkDir& dir, const DaemonPlan& plan, const std::string& socket,
                         const std::string& control);
    std::string socket_;
    std::string control_;
    std::string log_;
    Process process_;
};

struct ReaderPlan {
    std::string socket;  // of tierd; empty: the stand-in runs without the preloaded library
    uid_t user = 0;
};

// A tierd_reader. Its commands are listed in reader.cc.
class ReaderProcess {
  public:
    ReaderProcess(const WorkDir& dir, const ReaderPlan& plan);

    void send(const std::string& line);
    // The next answer. Throws when none comes within `seconds`, when the stand-in died, or when it says
    // "error".
    Json receive(unsigned seconds = 120);
    Json call(const std::string& line) {
        send(line);
        return receive();
    }
    pid_t pid() const { return process_.pid(); }
    // Ends its input and waits: waitpid's status.
    int finish();

  private:
    static Process start(const WorkDir& dir, const ReaderPlan& plan, Fd& to, Fd& from);
    std::string log_;
    Fd to_;
    Fd from_;
    std::string received_;
    Process process_;
};

// Looks at the memory of a daemon's arenas about a thousand times a second, by what the kernel counts for the
// files behind its descriptors (st_blocks), from construction until stop().
class ArenaSampler {
  public:
    explicit ArenaSampler(pid_t daemon);
    ~ArenaSampler();
    void stop();
    uint64_t peak_bytes() const { return peak_bytes_; }  // sum over all arenas, the most of all samples
    uint64_t samples() const { return samples_; }

  private:
    void run();
    pid_t daemon_;
    std::atomic<bool> stop_{false};
    std::atomic<uint64_t> peak_bytes_{0};
    std::atomic<uint64_t> samples_{0};
    std::thread thread_;
};

// Descriptors of the daemon's arenas, opened through /proc for looking only (O_PATH).
std::vector<Fd> arenas_of(pid_t daemon);

// True when a verify answer found nothing wrong and no SIGBUS.
bool all_right(const Json& told);

// True when the process has this file itself mapped somewhere: it, or a part of it, is back on the kernel's
// mapping.
bool maps_file(pid_t pid, const std::string& path);

// True while the process holds a userfaultfd: while a session with tierd, or what it left behind, goes on.
bool holds_userfaultfd(pid_t pid);

// Bytes of arenas that the process has mapped by huge pages.
uint64_t huge_mapped_bytes(pid_t pid);

// The count of that name in a list of {name, count}.
uint64_t counted(const Json& list, const std::string& name);

// True when every run of a "backing" answer is `what`.
bool is_all(const Json& backing, const std::string& what);

// Calls `done` until it is true, a few milliseconds apart. Returns false when `seconds` have passed, however long `done`
// itself takes.
template <class Done>
bool comes_true(Done done, unsigned seconds = 20) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
    while (std::chrono::steady_clock::now() < deadline) {
        if (done()) return true;
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return done();
}

}  // namespace tierd::itest
