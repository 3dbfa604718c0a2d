// policy_runner.h - runs a policy's programs: in place, for a replay, or on a thread of their own, for the daemon.
//
// Owns:      the thread, and the calls that are queued for it.
// Invariant: post() and take_replies() never wait for a program: a running one can't be stopped, so no caller may
//            depend on its end. Replies come in the order of the calls.
// Callers:   one thread; `notify` is called from the policy's.
// Fails:     post() reports that a call was dropped because too many are queued.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "lib/policy/policy_calls.h"

namespace tierd {

class PolicyRunner {
  public:
    virtual ~PolicyRunner() = default;
    // False: dropped and counted.
    virtual bool post(PolicyCall call) = 0;
    // Appends what has come since.
    virtual void take_replies(std::vector<PolicyReply>& out) = 0;
    virtual PolicyStats stats() const = 0;
    // Why the policy must go; empty: it may stay.
    virtual std::string exit_reason() const = 0;
};

// The destructor runs tierd/exit.
std::unique_ptr<PolicyRunner> run_at_once(std::shared_ptr<BpfObject> object);

// `notify` is called when replies have come; it must not call the runner. The destructor returns at once: the thread
// runs tierd/exit (unless the policy has an exit reason) and ends by itself, with its own share of everything that
// its programs use.
std::unique_ptr<PolicyRunner> run_on_thread(std::shared_ptr<BpfObject> object, std::function<void()> notify);

}  // namespace tierd
