// main.cc - a chaos run: a real tierd and many readers, while everything that can change or die does; every byte is checked.
//
//   tierd_chaos --seconds N [--seed S] [--logs FOLDER] [--json FILE]
//
// Prints the seed at the start and one line of counts at the end. The seed repeats the dice, not the moment at which the
// kernel runs whom. Exit status 1: a wrong byte, a lost wake-up, a crash, a budget that did not hold; what it was is printed.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <list>
#include <random>

#include "lib/base/bytes.h"
#include "lib/base/clock.h"
#include "tests/chaos/keeper.h"
#include "tests/chaos/orders.h"
#include "tests/chaos/reading.h"

namespace {

using namespace tierd;
using namespace tierd::chaos;

constexpr unsigned kReaders = 4;  // at a time

struct Wish {
    uint64_t seconds = 20;
    uint64_t seed = 0;
    std::string log_folder;  // keeps the programs' words when the run fails
    std::string json;
};

std::string line_of(const Tally& t, double minutes, uint64_t seed) {
    return fmt::format(
        "chaos: seed {}, {:.1f} minutes, {} verified, wrong bytes {}, stale reads {}, lost wake-ups {}, "
        "crashes {}, "
        "kills survived {}, stops {}, restarts {}, readers {} ({} killed, {} stopped, {} forks), mappings "
        "served {}, "
        "re-attached {}, models replaced {} changed {} vanished {}, policies loaded {} refused {} ejected "
        "{}, orders {}, "
        "worst stall {:.0f} ms",
        seed, minutes, format_bytes(t.bytes_verified), t.wrong_bytes.load(), t.stale_reads.load(),
        t.lost_wakeups.load(), t.crashes.load(), t.kills_survived.load(), t.stops_survived.load(),
        t.restarts.load(), t.readers.load(), t.readers_killed.load(), t.readers_stopped.load(),
        t.forks.load(), t.maps_served.load(), t.reattached.load(), t.models_replaced.load(),
        t.models_changed.load(), t.models_vanished.load(), t.policies_loaded.load(),
        t.policies_refused.load(), t.policies_ejected.load(), t.orders.load(),
        static_cast<double>(t.worst_stall_us.load()) / 1000);
}

void keep_logs(const itest::WorkDir& dir, const std::string& folder) {
    if (folder.empty()) return;
    std::filesystem::create_directories(folder);
    for (const char* name : {"tierd.log", "reader.log"}) {
        std::error_code missing;
        std::filesystem::copy_file(dir.file(name), folder + "/" + name,
                                   std::filesystem::copy_options::overwrite_existing, missing);
    }
    std::cout << "the programs' own words are in " << folder << std::endl;
}

int run(const Wish& wish) {
    std::cout << "chaos: seed " << wish.seed << ", " << wish.seconds << " s" << std::endl;
    const uint64_t begin_ns = monotonic_ns();
    itest::WorkDir dir;
    Tally tally;
    Library library(dir, tally, wish.seed);
    Keeper keeper(dir, tally, wish.seed + 1);
    std::atomic<bool> end{false};
    std::list<std::thread> threads;
    threads.emplace_back([&] { keeper.keep_killing(end); });
    threads.emplace_back([&] { keep_ordering(keeper, library, tally, end, wish.seed + 2); });
    const std::string socket = dir.file("tierd.sock");
    for (unsigned i = 0; i < kReaders; i++)
        threads.emplace_back([&, i] { keep_reading(dir, socket, library, tally, end, wish.seed + 10 + i); });
    while (monotonic_ns() - begin_ns < wish.seconds * kNsPerSecond && !tally.failed())
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
    end = true;
    for (std::thread& thread : threads) thread.join();

    const double minutes = static_cast<double>(monotonic_ns() - begin_ns) / kNsPerSecond / 60;
    if (!wish.json.empty()) {
        itest::Json out = tally.json();
        out["seed"] = wish.seed;
        out["minutes"] = minutes;
        std::ofstream(wish.json) << out.dump(2) << '\n';
    }
    for (const std::string& failure : tally.failures()) std::cout << "failed: " << failure << '\n';
    if (tally.failed()) keep_logs(dir, wish.log_folder);
    bool idle = tally.bytes_verified == 0 || tally.maps_served == 0;
    if (idle) std::cout << "failed: nothing was read under tierd" << std::endl;
    std::cout << line_of(tally, minutes, wish.seed) << std::endl;
    return tally.failed() || idle ? 1 : 0;
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app{
        "Reads weights under a tierd that is killed, stopped and told nonsense, and checks every byte."};
    Wish wish;
    wish.seed = std::random_device{}();
    app.add_option("--seconds", wish.seconds, "how long");
    app.add_option("--seed", wish.seed, "of the dice; a random one is printed");
    app.add_option("--logs", wish.log_folder,
                   "folder that keeps tierd's and the readers' logs of a failed run");
    app.add_option("--json", wish.json, "file for the counts");
    CLI11_PARSE(app, argc, argv);
    if (::geteuid() != 0) itest::skip_program("readers of other users need root");
    return run(wish);
}
