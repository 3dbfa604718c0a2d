// main.cc - runs simulated machines, one for each seed.
//
//   engine_simulation [--seeds N] [--first S] [--jobs J]   N runs (2000), from seed S (1), in J processes (1)
//   engine_simulation --seed S                             one run, told step by step
//   engine_simulation --mutation NAME ...                  with a mistake made on purpose
//   engine_simulation --mutations [--seeds N]              each mistake in turn: every one must be found within N runs
// Exit status: 0 all promises were kept; 1 otherwise, and the last lines say which and how to see it again.
#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <csignal>
#include <cstdio>

#include "tests/sim/scenario.h"

using namespace tierd::sim;

namespace {

std::atomic<uint64_t> seed_now = 0;
const char* mutation_now = "none";

// The engine gives up (abort), or something crashes: say where. printf is good enough for a process that ends here.
void on_crash(int signal) {
    std::printf("seed %lu: signal %d\nto see it: engine_simulation --seed %lu%s%s\n", seed_now.load(), signal,
                seed_now.load(), mutation_now == std::string_view("none") ? "" : " --mutation ",
                mutation_now == std::string_view("none") ? "" : mutation_now);
    std::fflush(stdout);
    ::_exit(1);
}

struct Plan {
    uint64_t first = 1;
    uint64_t seeds = 2000;
    uint64_t stride = 1;
    RunOptions options;
};

RunCounts run_all(const Plan& plan) {
    RunCounts sum;
    for (uint64_t i = 0; i < plan.seeds; i++) {
        seed_now = plan.first + i * plan.stride;
        sum.add(run_seed(seed_now, plan.options));
    }
    return sum;
}

// Runs the plan in a child; true when it ended well. What it counted goes through the pipe.
struct Child {
    pid_t pid = 0;
    int pipe = -1;
};
Child start_child(const Plan& plan, bool mute) {
    int ends[2];
    if (::pipe(ends) != 0) std::exit(2);
    std::fflush(stdout);
    pid_t pid = ::fork();
    if (pid == 0) {
        if (mute) ::dup2(::open("/dev/null", O_WRONLY), STDOUT_FILENO);
        RunCounts sum = run_all(plan);
        (void)!::write(ends[1], &sum, sizeof sum);
        ::_exit(0);
    }
    ::close(ends[1]);
    return {pid, ends[0]};
}
bool join_child(const Child& child, RunCounts& sum) {
    RunCounts counts;
    if (::read(child.pipe, &counts, sizeof counts) == sizeof counts) sum.add(counts);
    ::close(child.pipe);
    int status = 0;
    ::waitpid(child.pid, &status, 0);
    return status == 0;
}

int run_in_processes(const Plan& plan, uint64_t jobs) {
    auto begun = std::chrono::steady_clock::now();
    std::vector<Child> children;
    for (uint64_t i = 0; i < jobs; i++) {
        Plan part = plan;
        part.first = plan.first + i;
        part.stride = jobs;
        part.seeds = plan.seeds / jobs + (i < plan.seeds % jobs ? 1 : 0);
        children.push_back(start_child(part, false));
    }
    RunCounts sum;
    bool good = true;
    for (const Child& child : children) good = join_child(child, sum) && good;
    double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
    std::printf(
        "%lu seeds in %.1f s (%.0f a second): %lu steps, %lu waiting touches, %lu fills, %lu evictions, %lu "
        "moves, %lu orders to "
        "fall back, %lu changed files: %s\n",
        sum.runs, seconds, static_cast<double>(sum.runs) / seconds, sum.steps, sum.touches_waited, sum.fills,
        sum.evictions, sum.moves, sum.fall_backs, sum.generations,
        good ? "every promise was kept" : "A PROMISE WAS BROKEN");
    return good ? 0 : 1;
}

// Each mistake must be found.
int run_mutations(Plan plan) {
    int missed = 0;
    for (const NamedMutation& named : mutations()) {
        plan.options.mutation = named.mutation;
        mutation_now = named.name;
        RunCounts counts;
        bool unnoticed = join_child(start_child(plan, true), counts);
        std::printf("%-26s %s\n", named.name, unnoticed ? "NOT FOUND" : "found");
        missed += unnoticed ? 1 : 0;
    }
    return missed == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
    Plan plan;
    uint64_t seed = 0, jobs = 1;
    std::string mutation;
    bool all_mutations = false;
    CLI::App app("runs the engine on simulated machines");
    app.add_option("--seeds", plan.seeds);
    app.add_option("--first", plan.first);
    app.add_option("--jobs", jobs)->check(CLI::Range(1, 256));
    app.add_option("--seed", seed);
    app.add_option("--mutation", mutation);
    app.add_flag("--mutations", all_mutations);
    CLI11_PARSE(app, argc, argv);
    for (int signal : {SIGABRT, SIGSEGV, SIGBUS, SIGFPE}) std::signal(signal, on_crash);
    spdlog::set_level(seed != 0 ? spdlog::level::debug : spdlog::level::off);
    for (const NamedMutation& named : mutations())
        if (mutation == named.name) {
            plan.options.mutation = named.mutation;
            mutation_now = named.name;
        }
    if (!mutation.empty() && plan.options.mutation == Mutation::none) {
        std::printf("no such mutation: %s\n", mutation.c_str());
        return 2;
    }
    if (all_mutations) return run_mutations(plan);
    if (seed != 0) {
        plan.options.verbose = true;
        seed_now = seed;
        run_seed(seed, plan.options);
        return 0;
    }
    return run_in_processes(plan, jobs);
}
