// bpf_policy.h - a loaded object as a Policy, for the engine and for a replay.
//
// Owns:      the runner of its programs, and a built-in policy that receives every event too. The built-in policy
//            answers for hooks that the object lacks, and takes over at once if the object is ejected.
// Invariant: nothing here waits for a program. Victims are the extents of the lowest score, once the object has a
//            hook that can set scores (model_open, fault or epoch); otherwise the built-in policy names them.
// Callers:   one thread, the engine's or a replay's. An event costs a message to the programs' thread.
// Fails:     never; exit_reason() is not empty when the object should be ejected.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "lib/policy/policy_runner.h"
#include "lib/policy/score_victims.h"

namespace tierd {

class BpfPolicy final : public Policy {
  public:
    BpfPolicy(std::shared_ptr<BpfObject> object, std::unique_ptr<PolicyRunner> runner,
              std::unique_ptr<Policy> built_in);

    // Calls tierd/init, which may refuse: before anything of the object decides. Returns its log. Errors: bad_input,
    // with
    // that log.
    static Result<std::vector<std::string>> init(const std::shared_ptr<BpfObject>& object,
                                                 const PolicyView& view);

    std::string_view name() const override { return object_->name(); }
    void model_open(const PolicyView& view, const PolicyModel& model) override;
    void model_close(const PolicyView& view, uint32_t model) override;
    void first_session(const PolicyView& view, uint32_t model, PolicyDecisions& out) override;
    void last_session(const PolicyView& view, uint32_t model, PolicyDecisions& out) override;
    void fault(const PolicyView& view, ExtentId extent, Touch touch, PolicyDecisions& out) override;
    void filled(const PolicyView& view, ExtentId extent) override;
    void evicted(const PolicyView& view, ExtentId extent) override { built_in_->evicted(view, extent); }
    void reclaim(const PolicyView& view, uint64_t needed_bytes, bool for_demand,
                 PolicyDecisions& out) override;
    void epoch(const PolicyView& view, PolicyDecisions& out) override;
    void collect(const PolicyView& view, PolicyDecisions& out) override;

    const BpfObject& object() const { return *object_; }
    // What the object keeps with each lease, by slot.
    std::span<tierd_lease_ctx> lease_contexts() const { return object_->lease_contexts(); }
    PolicyStats stats() const { return runner_->stats(); }
    uint64_t unknown_kinds() const { return unknown_kinds_; }
    std::string exit_reason() const { return runner_->exit_reason(); }
    // The built-in policy, to go on with; this object is of no use afterwards.
    std::unique_ptr<Policy> take_built_in() { return std::move(built_in_); }

  private:
    tierd_call call(const PolicyView& view) const;
    void post(Hook hook, const tierd_call& arguments, const PolicyView& view, PolicyDecisions& out);
    void propose_for_built_in(const PolicyView& view, PolicyDecisions& out);
    void inspect_tiers(const PolicyView& view, PolicyDecisions& out);
    void ask_again(const PolicyView& view, PolicyDecisions& out);
    void add(const tierd_decision& decision, PolicyDecisions& out);

    std::shared_ptr<BpfObject> object_;
    std::unique_ptr<PolicyRunner> runner_;
    std::unique_ptr<Policy> built_in_;
    bool by_score_;
    ScoreVictims victims_;
    PolicyDecisions scratch_;              // what the built-in policy returns
    std::vector<PolicyReply> replies_;     // reused
    std::vector<tierd_decision> delayed_;  // to be asked again in the next epoch
    std::vector<tierd_tier_info> tiers_;   // as they were in the last epoch
    uint64_t epochs_ = 0;
    uint64_t unknown_kinds_ = 0;
};

}  // namespace tierd
