#include "tests/chaos/keeper.h"

#include <fmt/format.h>
#include <sys/wait.h>

#include <csignal>

#include "lib/base/clock.h"

namespace tierd::chaos {
namespace {

void pause_ms(uint64_t ms) {
    std::this_thread::sleep_for(std::chrono::milliseconds(ms));
}

template <size_t N>
const char* one_of(Dice& dice, const char* const (&choices)[N]) {
    return choices[dice() % N];
}

itest::DaemonPlan some_plan(Dice& dice) {
    itest::DaemonPlan plan;
    plan.budget = std::to_string(between(dice, 16, Keeper::kMostBudgetBytes >> 20)) + "MiB";
    plan.options = {"--extent",     one_of(dice, {"64KiB", "256KiB", "2MiB", "2MiB"}),
                    "--huge-pages", one_of(dice, {"auto", "thp", "off"}),
                    "--policy",     one_of(dice, {"auto", "lru", "sweep"})};
    plan.config =
        fmt::format("[session]\ngroup = \"nogroup\"\n[sample]\nsource = \"{}\"\n[io]\ndirect = {}\n",
                    one_of(dice, {"auto", "hint", "off"}), dice() % 4 != 0);
    return plan;
}

}  // namespace

Keeper::Keeper(const itest::WorkDir& dir, Tally& tally, uint64_t seed)
    : dir_(dir), tally_(tally), dice_(seed) {}

std::shared_ptr<itest::Daemon> Keeper::daemon() const {
    std::lock_guard lock(mutex_);
    return daemon_;
}

void Keeper::start() {
    auto started = std::make_shared<itest::Daemon>(dir_, some_plan(dice_));
    std::lock_guard lock(mutex_);
    daemon_ = std::move(started);
}

void Keeper::keep_killing(const std::atomic<bool>& end) {
    while (!end) {
        try {
            start();
            itest::ArenaSampler sampler(daemon_->pid());
            live_a_while(end);
            sampler.stop();
            note_budget(sampler.peak_bytes());
            if (!end) end_it();
            if (!end && dice_() % 2) pause_ms(between(dice_, 0, 1500));
        } catch (const std::exception& trouble) {
            tally_.crashes++;
            tally_.fail(std::string("tierd: ") + trouble.what());
            pause_ms(500);
        }
    }
    if (auto last = daemon(); last && last->running()) check_exit(last->stop(), false);
}

void Keeper::live_a_while(const std::atomic<bool>& end) {
    const uint64_t until_ns = monotonic_ns() + between(dice_, 200, 5000) * kNsPerMs;
    while (!end && monotonic_ns() < until_ns) {
        pause_ms(between(dice_, 10, 100));
        if (!daemon_->running()) {
            check_exit(daemon_->wait(), false);
            return;
        }
        if (dice_() % 50 == 0) stop_and_go_on();
    }
}

void Keeper::stop_and_go_on() {
    daemon_->send(SIGSTOP);
    pause_ms(between(dice_, 1, 2500));
    daemon_->send(SIGCONT);
    tally_.stops_survived++;
}

void Keeper::end_it() {
    if (!daemon_->running()) return;
    if (dice_() % 4 == 0) {
        check_exit(daemon_->stop(), false);
        tally_.restarts++;
        return;
    }
    if (dice_() % 4 == 0) daemon_->send(SIGSTOP);  // dies without having moved again
    daemon_->send(SIGKILL);
    check_exit(daemon_->wait(), true);
    tally_.kills_survived++;
}

void Keeper::check_exit(int status, bool was_killed) {
    bool as_told = was_killed ? WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL
                              : WIFEXITED(status) && WEXITSTATUS(status) == 0;
    if (as_told) return;
    tally_.crashes++;
    tally_.fail(fmt::format("tierd ended with status {:#x}; its last words are in the log", status));
}

// By the kernel's own count. A life begins with at most the greatest budget, and no administrator sets more.
void Keeper::note_budget(uint64_t peak_bytes) {
    if (peak_bytes <= kMostBudgetBytes + kTierBytes) return;
    tally_.over_budget++;
    tally_.fail(fmt::format("arenas held {} bytes, more than any budget", peak_bytes));
}

}  // namespace tierd::chaos
