#include "lib/policy/policy_health.h"

#include <fmt/format.h>

#include <bit>

#include "lib/base/clock.h"

namespace tierd {
namespace {

constexpr uint64_t kMostForOneCallNs = 500 * kNsPerMs;
constexpr uint32_t kRemembered = 0xff;  // the last eight calls of a hook
constexpr int kDearCalls = 3;           // of those
constexpr uint32_t kFaultsInARow = 16;

std::string took(Hook hook, uint64_t cpu_ns) {
    return fmt::format("{} took {} µs of processor time and may take {}", spec(hook).section, cpu_ns / 1000,
                       spec(hook).budget_ns / 1000);
}

}  // namespace

bool PolicyHealth::is_fault(Hook hook, const CallOutcome& outcome) {
    if (outcome.failure != 0) return true;
    if (hook == Hook::admit) return outcome.verdict < TIERD_ADMIT || outcome.verdict > TIERD_DELAY;
    return outcome.verdict != 0;
}

bool PolicyHealth::is_over_budget(Hook hook, const CallOutcome& outcome) {
    return outcome.cpu_ns > spec(hook).budget_ns;
}

std::string PolicyHealth::reason_to_end_running(Hook hook, uint64_t cpu_ns) {
    return cpu_ns > kMostForOneCallNs ? took(hook, cpu_ns) + "; it is still running" : "";
}

void PolicyHealth::add(Hook hook, const CallOutcome& outcome) {
    Calls& calls = hooks_[static_cast<size_t>(hook)];
    calls.dear = (calls.dear << 1 | uint32_t{is_over_budget(hook, outcome)}) & kRemembered;
    calls.faults_in_a_row = is_fault(hook, outcome) ? calls.faults_in_a_row + 1 : 0;
    if (!exit_reason_.empty()) return;
    if (outcome.cpu_ns > kMostForOneCallNs)
        exit_reason_ = took(hook, outcome.cpu_ns);
    else if (std::popcount(calls.dear) >= kDearCalls)
        exit_reason_ = fmt::format("{}, for the third time in eight calls", took(hook, outcome.cpu_ns));
    else if (calls.faults_in_a_row >= kFaultsInARow)
        exit_reason_ =
            outcome.failure != 0
                ? fmt::format("{} could not be run: error {}", spec(hook).section, -outcome.failure)
                : fmt::format("{} returned {} time after time", spec(hook).section, outcome.verdict);
}

}  // namespace tierd
