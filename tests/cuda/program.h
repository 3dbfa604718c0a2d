// program.h - programs of CUDA on the simulated GPU, with the preloaded library and without it.
//
// Callers:   one test program includes it once.
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

#include <sstream>

#include "tests/integration/harness.h"

namespace tierd::itest {

using Words = std::vector<std::string>;

inline std::string tests_dir() {
    return build_dir() + "/tests/";
}

struct Run {
    int status = 0;
    std::string output;
    std::string log;

    bool fine() const { return WIFEXITED(status) && WEXITSTATUS(status) == 0; }
};

// The checksums among what a program printed.
inline Words checksums_of(const std::string& output) {
    Words sums;
    std::istringstream said(output);
    for (std::string word; said >> word;)
        if (word == "checksum" && said >> word) sums.push_back(word);
    return sums;
}

struct Gpu {
    std::string memory = "256MiB";
    std::string file;  // that processes share; empty: each its own
};

// A program on the simulated GPU; with `more` in its environment, e.g. the preloaded library's.
class Program {
  public:
    // `in` becomes its standard input; -1: it has none.
    Program(const WorkDir& dir, const std::string& name, std::vector<std::string> argv, const Gpu& gpu,
            std::vector<std::string> more, int in = -1)
        : output_(dir.file(name + ".out")),
          log_(dir.file(name + ".log")),
          process_(start(argv, gpu, more, in)) {}

    Run wait() {
        int status = process_.wait();
        return {status, text_of(output_), text_of(log_)};
    }
    void kill() { process_.send(SIGKILL); }
    void send(int signal) { process_.send(signal); }
    const std::string& output() const { return output_; }
    pid_t pid() const { return process_.pid(); }
    const std::string& log() const { return log_; }

  private:
    Process start(std::vector<std::string>& argv, const Gpu& gpu, std::vector<std::string>& more, int in) {
        Process::Plan plan;
        if (argv[0][0] != '/') argv[0] = tests_dir() + argv[0];
        plan.argv = argv;
        plan.environment = more;
        plan.environment.push_back("LD_LIBRARY_PATH=" + build_dir() + "/simcuda");
        plan.environment.push_back("SIMCUDA_MEMORY=" + gpu.memory);
        plan.environment.push_back("SIMCUDA_POISON=1");
        plan.environment.push_back("SIMCUDA_MISUSE=error");
        plan.environment.push_back("SIMCUDA_KERNELS=" + tests_dir() + "tierd_hash_kernel.so:" + build_dir() +
                                   "/simcuda/mini_kernels.so");
        plan.environment.push_back("TEST_KERNELS=" + tests_dir() + "simcuda_test_kernels.so");
        if (!gpu.file.empty()) plan.environment.push_back("SIMCUDA_GPU=" + gpu.file);
        plan.log = log_;
        plan.in = in;
        const Fd out(::open(output_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
        plan.out = out.get();
        return Process(plan);
    }
    const std::string output_;
    const std::string log_;
    Process process_;
};

inline std::vector<std::string> preloaded(std::vector<std::string> more) {
    more.push_back("LD_PRELOAD=" TIERD_PRELOADED);
    more.push_back("TIERD_LOG=info");
    more.push_back(std::string("TIERD_MATCH=") + kMatch);
    return more;
}

inline std::vector<std::string> under(const Daemon& daemon) {
    return preloaded({"TIERD_SOCKET=" + daemon.socket()});
}

// The number before `what` in the line that the library writes at the end.
inline uint64_t counted(const std::string& log, const std::string& what) {
    size_t at = log.find("tierd-shim: GPU: ");
    if (at == std::string::npos) return 0;
    size_t word = log.find(what, at);
    if (word == std::string::npos) return 0;
    size_t begin = log.find_last_not_of("0123456789", word - 2) + 1;
    return std::stoull(log.substr(begin));
}

// What the daemon lists under /v1/KIND.
inline Json listed(const Daemon& daemon, const std::string& kind) {
    return daemon.get("/v1/" + kind).at(kind);
}

inline DaemonPlan sharing(const std::string& capacity, unsigned slice_ms = 20) {
    return {
        .budget = "64MiB",
        .config = "[gpu]\ncapacity = \"" + capacity + "\"\nslice_ms = " + std::to_string(slice_ms) + "\n"};
}

}  // namespace tierd::itest
