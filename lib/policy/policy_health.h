// policy_health.h - decides from the cost and the result of its calls whether a policy is ejected.
//
// A call's measured processor time can exceed its own: interrupts count as the thread's time, and a host can stop a
// virtual processor for some 10 ms unnoticed. Such a stop hits one call of many. So one call over budget is forgiven,
// unless it exceeds the longest stop; several are not.
//
// Owns:      the last calls' costs and failures, and the first exit reason, which stays.
// Callers:   one thread, or any with a lock around it.
// Fails:     never.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "lib/policy/bpf_object.h"

namespace tierd {

class PolicyHealth {
  public:
    // The call did not run, or returned what it may not.
    static bool is_fault(Hook hook, const CallOutcome& outcome);
    static bool is_over_budget(Hook hook, const CallOutcome& outcome);
    // Of a call that has run for `cpu_ns` of processor time and has not ended. Empty: none.
    static std::string reason_to_end_running(Hook hook, uint64_t cpu_ns);

    void add(Hook hook, const CallOutcome& outcome);
    // Why the policy must go; empty: it may stay.
    const std::string& exit_reason() const { return exit_reason_; }

  private:
    struct Calls {
        uint32_t dear = 0;  // a bit for each of the last calls, the lowest is the last: beyond the budget
        uint32_t faults_in_a_row = 0;
    };
    std::array<Calls, kHooks> hooks_{};
    std::string exit_reason_;
};

}  // namespace tierd
