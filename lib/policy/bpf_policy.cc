#include "lib/policy/bpf_policy.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>

namespace tierd {
namespace {

constexpr size_t kMaxDelayed = 1024;

bool names_score(const BpfObject& object) {
    return object.has(Hook::model_open) || object.has(Hook::fault) || object.has(Hook::epoch);
}

tierd_decision proposal(uint32_t kind, ExtentId extent, uint32_t tier = TIERD_NO_TIER,
                        uint32_t priority = 0) {
    tierd_decision decision{};
    decision.kind = kind;
    decision.extent = extent;
    decision.tier = tier;
    decision.priority = priority;
    return decision;
}

tierd_call common_call(const PolicyView& view, const BpfTables& tables, uint64_t epoch) {
    tierd_call call{};
    call.now_ns = view.now_ns;
    call.epoch = epoch;
    call.extents = static_cast<uint32_t>(std::min<size_t>(view.extents.size(), tables.capacity()));
    call.models = view.models;
    call.gpus = view.gpus;
    call.leases = view.leases;
    call.tiers = view.tiers.empty() ? 1 : static_cast<uint32_t>(view.tiers.size() - 1);
    return call;
}

}  // namespace

BpfPolicy::BpfPolicy(std::shared_ptr<BpfObject> object, std::unique_ptr<PolicyRunner> runner,
                     std::unique_ptr<Policy> built_in)
    : object_(std::move(object)),
      runner_(std::move(runner)),
      built_in_(std::move(built_in)),
      by_score_(names_score(*object_)) {}

Result<std::vector<std::string>> BpfPolicy::init(const std::shared_ptr<BpfObject>& object,
                                                 const PolicyView& view) {
    PolicyAnswer answer;
    if (!object->has(Hook::init)) return answer.log;
    CallOutcome outcome = object->run(Hook::init, common_call(view, object->tables(), 0), answer);
    if (outcome.failure == 0 && outcome.verdict == 0) return answer.log;
    std::string why = outcome.failure != 0
                          ? fmt::format("its tierd/init could not be run: error {}", -outcome.failure)
                          : fmt::format("its tierd/init returned {}", outcome.verdict);
    return fail(Code::bad_input, fmt::format("load the policy {}: {}", object->name(), why), {},
                answer.log.empty() ? "" : fmt::format("it says: {}", fmt::join(answer.log, " | ")));
}

tierd_call BpfPolicy::call(const PolicyView& view) const {
    return common_call(view, object_->tables(), epochs_);
}

void BpfPolicy::post(Hook hook, const tierd_call& arguments, const PolicyView& view, PolicyDecisions& out) {
    if (!object_->has(hook)) return;
    runner_->post({.hook = hook, .arguments = arguments});
    collect(view, out);
}

void BpfPolicy::model_open(const PolicyView& view, const PolicyModel& model) {
    auto ctxs = object_->ctxs();
    size_t first = std::min<size_t>(model.first_extent, ctxs.size());
    auto ours = ctxs.subspan(first, std::min<size_t>(model.extent_count, ctxs.size() - first));
    if (!ours.empty()) std::memset(ours.data(), 0, ours.size_bytes());
    built_in_->model_open(view, model);
}

void BpfPolicy::model_close(const PolicyView& view, uint32_t model) {
    built_in_->model_close(view, model);
}

void BpfPolicy::first_session(const PolicyView& view, uint32_t model, PolicyDecisions& out) {
    tierd_call arguments = call(view);
    arguments.model = model;
    post(Hook::model_open, arguments, view, out);
}

void BpfPolicy::last_session(const PolicyView& view, uint32_t model, PolicyDecisions& out) {
    tierd_call arguments = call(view);
    arguments.model = model;
    post(Hook::model_close, arguments, view, out);
}

void BpfPolicy::fault(const PolicyView& view, ExtentId extent, Touch touch, PolicyDecisions& out) {
    victims_.changed(extent);
    scratch_.clear();
    built_in_->fault(view, extent, touch, scratch_);
    if (!object_->has(Hook::fault)) return propose_for_built_in(view, out);
    tierd_call arguments = call(view);
    arguments.extent = extent;
    arguments.model = view.extents[extent].model;
    arguments.touch = touch == Touch::missing ? TIERD_TOUCH_MISSING : TIERD_TOUCH_MINOR;
    post(Hook::fault, arguments, view, out);
}

void BpfPolicy::filled(const PolicyView& view, ExtentId extent) {
    victims_.changed(extent);
    built_in_->filled(view, extent);
}

void BpfPolicy::epoch(const PolicyView& view, PolicyDecisions& out) {
    epochs_++;
    inspect_tiers(view, out);
    if (view.leases > 0) post(Hook::contend, call(view), view, out);
    ask_again(view, out);
    scratch_.clear();
    built_in_->epoch(view, scratch_);
    if (!object_->has(Hook::epoch)) return propose_for_built_in(view, out);
    post(Hook::epoch, call(view), view, out);
}

// Proposals of the built-in policy pass the same checks as those of the object.
void BpfPolicy::propose_for_built_in(const PolicyView& view, PolicyDecisions& out) {
    std::ranges::copy(scratch_.evict, std::back_inserter(out.evict));
    std::ranges::copy(scratch_.watch, std::back_inserter(out.watch));
    if (!object_->has(Hook::admit)) {
        std::ranges::copy(scratch_.read_ahead, std::back_inserter(out.read_ahead));
        std::ranges::copy(scratch_.moves, std::back_inserter(out.moves));
        return;
    }
    PolicyCall asks{.hook = Hook::admit, .arguments = call(view)};
    for (ExtentId extent : scratch_.read_ahead) asks.proposals.push_back(proposal(TIERD_READ_AHEAD, extent));
    for (const ProposedMove& move : scratch_.moves)
        asks.proposals.push_back(proposal(TIERD_MOVE, move.extent, move.tier, move.priority));
    if (asks.proposals.empty()) return;
    runner_->post(std::move(asks));
    collect(view, out);
}

void BpfPolicy::ask_again(const PolicyView& view, PolicyDecisions& out) {
    if (delayed_.empty()) return;
    runner_->post({.hook = Hook::admit, .arguments = call(view), .proposals = std::exchange(delayed_, {})});
    collect(view, out);
}

void BpfPolicy::inspect_tiers(const PolicyView& view, PolicyDecisions& out) {
    std::vector<tierd_tier_info> now(view.tiers.begin(), view.tiers.end());
    if (now.empty()) {
        now.resize(2);
        now[1].capacity_bytes = view.dram.capacity_bytes;
    }
    bool first = tiers_.empty();
    tiers_.resize(std::max(tiers_.size(), now.size()));
    for (uint32_t number = 1; number < tiers_.size(); number++) {
        tierd_tier_info is = number < now.size() ? now[number] : tierd_tier_info{};
        const tierd_tier_info& was = tiers_[number];
        bool same =
            is.capacity_bytes == was.capacity_bytes && is.draining == was.draining && is.kind == was.kind;
        tiers_[number] = is;
        if (first || same) continue;
        tierd_call arguments = call(view);
        arguments.to_tier = number;
        post(Hook::tier_change, arguments, view, out);
    }
}

void BpfPolicy::reclaim(const PolicyView& view, uint64_t needed_bytes, bool for_demand,
                        PolicyDecisions& out) {
    if (!by_score_) return built_in_->reclaim(view, needed_bytes, for_demand, out);
    auto ctxs = object_->ctxs();
    // Memory that is to be free for the next miss may cost anything but what is to be held.
    uint64_t below = view.wanted == kNoExtent    ? TIERD_HOLD
                     : view.wanted < ctxs.size() ? ctxs[view.wanted].score
                                                 : 0;
    victims_.name(view, ctxs, {needed_bytes, below, for_demand}, out.evict);
}

void BpfPolicy::collect(const PolicyView& /*view*/, PolicyDecisions& out) {
    replies_.clear();
    runner_->take_replies(replies_);
    for (PolicyReply& reply : replies_) {
        for (const tierd_decision& decision : reply.decisions) add(decision, out);
        for (const tierd_decision& decision : reply.delayed)
            if (delayed_.size() < kMaxDelayed) delayed_.push_back(decision);
    }
}

void BpfPolicy::add(const tierd_decision& decision, PolicyDecisions& out) {
    switch (decision.kind) {
        case TIERD_READ_AHEAD:
            out.read_ahead.push_back(decision.extent);
            break;
        case TIERD_EVICT:
            out.evict.push_back(decision.extent);
            break;
        case TIERD_MOVE:
            out.moves.push_back({.extent = decision.extent,
                                 .tier = static_cast<uint8_t>(std::min<uint32_t>(decision.tier, UINT8_MAX)),
                                 .priority = decision.priority});
            break;
        case TIERD_WATCH:
            out.watch.push_back(decision.extent);
            break;
        default:
            unknown_kinds_++;
    }
}

}  // namespace tierd
