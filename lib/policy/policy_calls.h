// policy_calls.h - one call of a policy, from its arguments to checked decisions: the same steps in the daemon and in a
// replay.
//
// Owns:      what calls cost and returned (PolicyStats), and the policy's health (PolicyHealth).
// Invariant: a read-ahead or a move is returned only if the policy's own tierd/admit, if it has one, admitted it.
// Callers:   run() one thread; everything else any thread.
// Fails:     never; a failed call is counted, and too many of them eject the policy.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "lib/policy/bpf_object.h"
#include "lib/policy/policy_health.h"

namespace tierd {

// With `hook` admit the proposals of a built-in policy are passed to tierd/admit, and nothing else is called.
struct PolicyCall {
    Hook hook = Hook::epoch;
    tierd_call arguments{};
    std::vector<tierd_decision> proposals = {};
};

struct PolicyReply {
    std::vector<tierd_decision> decisions;  // in the order in which they are to be carried out
    std::vector<tierd_decision> delayed;    // to be asked again in the next epoch
};

// Durations in steps of an eighth of their size.
class CallHistogram {
  public:
    void add(uint64_t ns);
    // The duration that `percent` of all calls did not exceed, rounded up to its step; 0 without calls.
    uint64_t percentile_ns(uint64_t percent) const;
    uint64_t count() const { return count_; }
    uint64_t max_ns() const { return max_ns_; }

  private:
    std::array<uint64_t, 512> steps_{};
    uint64_t count_ = 0;
    uint64_t max_ns_ = 0;
};

struct HookStats {
    CallHistogram cpu;         // processor time of each call
    uint64_t faults = 0;       // calls that did not run, or returned what they may not
    uint64_t over_budget = 0;  // calls that took more than the hook's budget
};

struct PolicyStats {
    std::array<HookStats, kHooks> hooks;
    uint64_t proposed = 0;        // decisions that came back
    uint64_t answer_full = 0;     // decisions beyond an answer's room
    uint64_t not_admitted = 0;    // refused by the policy's own tierd/admit
    uint64_t delayed = 0;         // put off by it
    uint64_t calls_dropped = 0;   // not made, because too many were waiting
    std::deque<std::string> log;  // its last lines
};

class PolicyCaller {
  public:
    explicit PolicyCaller(std::shared_ptr<BpfObject> object) : object_(std::move(object)) {}

    PolicyReply run(PolicyCall call);

    PolicyStats stats() const;
    void count_dropped_call();
    // Why the policy must go; empty: it may stay. Looks at the call that is running too.
    std::string exit_reason() const;
    const std::shared_ptr<BpfObject>& object() const { return object_; }

  private:
    // The processor clock of the thread that runs a program now, and what it showed before.
    struct Running {
        bool active = false;
        Hook hook = Hook::epoch;
        clockid_t clock = 0;
        uint64_t before_ns = 0;
    };

    CallOutcome call_program(Hook hook, const tierd_call& arguments, PolicyAnswer& answer);
    void account(Hook hook, const CallOutcome& outcome, const PolicyAnswer& answer);
    void admit(const tierd_call& base, std::vector<tierd_decision> proposals, PolicyReply& reply);
    uint8_t fastest_tier() const;

    std::shared_ptr<BpfObject> object_;
    PolicyAnswer answer_, admit_answer_;  // reused, so that a call allocates little
    mutable std::mutex mutex_;            // guards all below; never held while a program runs
    PolicyStats stats_;
    Running running_;
    PolicyHealth health_;
};

}  // namespace tierd
