#include "lib/policy/policy_calls.h"

#include <pthread.h>
#include <time.h>

#include <algorithm>
#include <bit>

#include "lib/base/clock.h"

namespace tierd {
namespace {

constexpr size_t kLogLines = 32;

uint64_t read_clock_ns(clockid_t clock) {
    timespec now{};
    if (::clock_gettime(clock, &now) != 0) return 0;
    return static_cast<uint64_t>(now.tv_sec) * kNsPerSecond + static_cast<uint64_t>(now.tv_nsec);
}

// The engine's thread writes rows meanwhile, as it does while programs read them: an old value costs a wrong advice.
__attribute__((no_sanitize("thread"))) void place(const tierd_extent& row, tierd_call& arguments) {
    arguments.model = row.model;
    arguments.from_tier = row.tier;
}

// UINT8_MAX: nothing may move there.
__attribute__((no_sanitize("thread"))) uint8_t rank_of(const tierd_tier_info& tier) {
    return tier.capacity_bytes != 0 && tier.draining == 0 ? tier.rank : UINT8_MAX;
}

}  // namespace

void CallHistogram::add(uint64_t ns) {
    unsigned width = static_cast<unsigned>(std::bit_width(ns));
    uint64_t eighth = width > 3 ? ns >> (width - 4) & 7 : ns & 7;
    steps_[std::min<size_t>(width * 8 + eighth, steps_.size() - 1)]++;
    count_++;
    max_ns_ = std::max(max_ns_, ns);
}

uint64_t CallHistogram::percentile_ns(uint64_t percent) const {
    uint64_t wanted = (count_ * percent + 99) / 100, seen = 0;
    for (size_t step = 0; step < steps_.size() && wanted > 0; step++) {
        seen += steps_[step];
        if (seen < wanted) continue;
        uint64_t width = step / 8, eighth = step % 8;
        uint64_t top = width > 3 ? ((8 + eighth + 1) << (width - 4)) - 1 : eighth;
        return std::min(top, max_ns_);
    }
    return 0;
}

PolicyStats PolicyCaller::stats() const {
    std::lock_guard lock(mutex_);
    return stats_;
}

void PolicyCaller::count_dropped_call() {
    std::lock_guard lock(mutex_);
    stats_.calls_dropped++;
}

std::string PolicyCaller::exit_reason() const {
    std::lock_guard lock(mutex_);
    if (!health_.exit_reason().empty() || !running_.active) return health_.exit_reason();
    uint64_t now_ns = read_clock_ns(running_.clock);
    return PolicyHealth::reason_to_end_running(running_.hook, now_ns - std::min(now_ns, running_.before_ns));
}

CallOutcome PolicyCaller::call_program(Hook hook, const tierd_call& arguments, PolicyAnswer& answer) {
    {
        std::lock_guard lock(mutex_);
        running_.hook = hook;
        ::pthread_getcpuclockid(::pthread_self(), &running_.clock);
        running_.before_ns = read_clock_ns(running_.clock);
        running_.active = true;
    }
    CallOutcome outcome = object_->run(hook, arguments, answer);
    account(hook, outcome, answer);
    return outcome;
}

void PolicyCaller::account(Hook hook, const CallOutcome& outcome, const PolicyAnswer& answer) {
    std::lock_guard lock(mutex_);
    running_.active = false;
    HookStats& row = stats_.hooks[static_cast<size_t>(hook)];
    row.cpu.add(outcome.cpu_ns);
    if (PolicyHealth::is_fault(hook, outcome)) row.faults++;
    if (PolicyHealth::is_over_budget(hook, outcome)) row.over_budget++;
    stats_.proposed += answer.decisions.size();
    stats_.answer_full += answer.dropped;
    for (const std::string& line : answer.log) stats_.log.push_back(line);
    while (stats_.log.size() > kLogLines) stats_.log.pop_front();
    health_.add(hook, outcome);
}

uint8_t PolicyCaller::fastest_tier() const {
    uint8_t fastest = TIERD_NO_TIER, rank = UINT8_MAX;
    auto tiers = object_->tables().tiers();
    for (uint8_t number = 1; number < TIERD_MAX_TIERS; number++) {
        uint8_t rank_here = rank_of(tiers[number]);
        if (rank_here >= rank) continue;
        rank = rank_here;
        fastest = number;
    }
    return fastest;
}

// Asks tierd/admit about each read-ahead and move. Evictions and hints need no leave: they cost nothing.
void PolicyCaller::admit(const tierd_call& base, std::vector<tierd_decision> proposals, PolicyReply& reply) {
    if (!object_->has(Hook::admit)) {
        reply.decisions = std::move(proposals);
        return;
    }
    auto rows = object_->tables().extents();
    uint64_t refused = 0;
    for (const tierd_decision& proposal : proposals) {
        bool asks = proposal.kind == TIERD_READ_AHEAD || proposal.kind == TIERD_MOVE;
        int32_t verdict = TIERD_ADMIT;
        if (asks && proposal.extent < rows.size()) {
            tierd_call arguments = base;
            arguments.extent = proposal.extent;
            place(rows[proposal.extent], arguments);
            if (proposal.kind == TIERD_READ_AHEAD) arguments.from_tier = TIERD_NO_TIER;
            arguments.to_tier = proposal.tier != TIERD_NO_TIER ? proposal.tier : fastest_tier();
            CallOutcome outcome = call_program(Hook::admit, arguments, admit_answer_);
            verdict = PolicyHealth::is_fault(Hook::admit, outcome) ? int32_t{TIERD_REFUSE} : outcome.verdict;
        }
        if (verdict == TIERD_ADMIT) reply.decisions.push_back(proposal);
        if (verdict == TIERD_DELAY) reply.delayed.push_back(proposal);
        if (verdict == TIERD_REFUSE) refused++;
    }
    std::lock_guard lock(mutex_);
    stats_.not_admitted += refused;
    stats_.delayed += reply.delayed.size();
}

PolicyReply PolicyCaller::run(PolicyCall call) {
    PolicyReply reply;
    if (call.hook == Hook::admit) {
        admit(call.arguments, std::move(call.proposals), reply);
        return reply;
    }
    if (!object_->has(call.hook)) return reply;
    call_program(call.hook, call.arguments, answer_);
    if (spec(call.hook).may_propose) admit(call.arguments, answer_.decisions, reply);
    return reply;
}

}  // namespace tierd
