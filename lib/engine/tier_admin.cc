#include "lib/engine/tier_admin.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include <algorithm>

#include "lib/base/bytes.h"

namespace tierd {

namespace {

constexpr uint64_t kLargestBudget = 1ull << 62;  // where the machine's memory is not known

std::unexpected<Error> unknown_tier(const TierTable& tiers, const std::string& name) {
    std::vector<std::string> names;
    for (const Tier* tier : tiers.by_speed()) names.push_back(tier->spec.name);
    return fail(Code::not_found, "find tier", name, fmt::format("the tiers are {}", fmt::join(names, ", ")));
}

}  // namespace

std::vector<TierStatus> TierAdmin::tiers() const {
    std::vector<TierStatus> list;
    for (const Tier* tier : placement_.tiers().by_speed()) list.push_back(describe(*tier));
    return list;
}

TierStatus TierAdmin::describe(const Tier& tier) const {
    bool draining = placement_.jobs().drain_of(tier.number) != nullptr;
    return {.number = tier.number,
            .name = tier.spec.name,
            .kind = std::string(tier_kind_name(tier.spec.kind)),
            .capacity_bytes = tier.capacity_bytes(),
            .used_bytes = tier.used_bytes(),
            .nodes = tier.spec.nodes,
            .latency_ns = tier.spec.latency_ns,
            .bandwidth_bytes_per_s = tier.spec.bandwidth_bytes_per_s,
            .source = std::string(figure_source_name(tier.spec.source)),
            .state = draining      ? "draining"
                     : tier.closed ? "closed"
                                   : "open"};
}

Result<void> TierAdmin::set_budget(uint64_t budget_bytes) {
    uint64_t least = placement_.pinned_bytes() + least_bytes_;
    if (budget_bytes < least)
        return fail(Code::bad_input, "set the budget to", format_bytes(budget_bytes),
                    fmt::format("give at least {}", format_bytes(least)));
    const TierTable& tiers = placement_.tiers();
    uint64_t memory_bytes = tiers.find(tiers.system())->spec.memory_bytes;
    if (budget_bytes > (memory_bytes != 0 ? memory_bytes : kLargestBudget))
        return fail(Code::bad_input, "set the budget to", format_bytes(budget_bytes),
                    memory_bytes == 0 ? "it is larger than any machine"
                                      : fmt::format("give at most the {} that the machine has",
                                                    format_bytes(memory_bytes)));
    placement_.set_budget(budget_bytes);
    return {};
}

Result<JobStatus> TierAdmin::drain(const std::string& name, bool remove) {
    TierTable& tiers = placement_.tiers();
    Tier* tier = tiers.find(name);
    if (tier == nullptr) return unknown_tier(tiers, name);
    const char* what = remove ? "remove tier" : "drain tier";
    if (remove && tier->number == tiers.system())
        return fail(Code::bad_input, what, name,
                    "it is the machine's own memory: lower it with `tierctl budget`");
    if (const Job* job = placement_.jobs().drain_of(tier->number))
        return fail(Code::busy, what, name, fmt::format("job {} does so already", job->status.job));
    if (!tier->closed && tiers.open_count() == 1)
        return fail(Code::no_space, what, name,
                    fmt::format("it is the only open memory tier and holds {}: add another tier first",
                                format_bytes(tier->used_bytes())));
    uint64_t pinned = placement_.drainer().pinned_bytes(tier->number);
    uint64_t elsewhere = tiers.free_bytes() - tiers.room_in(*tier);
    if (pinned > elsewhere)
        return fail(
            Code::no_space, what, name,
            fmt::format("{} in it are pinned and the other tiers have {} free: unpin, or give another "
                        "tier more",
                        format_bytes(pinned), format_bytes(elsewhere)));
    return placement_.drain_tier(tier->number, remove);
}

Result<TierStatus> TierAdmin::add(const TierOverride& said, const Topology& topology) {
    TierTable& tiers = placement_.tiers();
    if (const Tier* known = tiers.find(said.name)) {
        if (placement_.jobs().drain_of(known->number) != nullptr || !known->closed)
            return fail(Code::bad_input, "add tier", said.name,
                        "there is one of that name: resize it, or let its drain end");
        placement_.reopen_tier(known->number);
        return describe(*known);
    }
    auto found = class_tiers(topology, 0, share_percent_, {});
    std::erase_if(found, [&](const TierSpec& spec) {
        return std::ranges::any_of(spec.nodes, [&](int node) { return tiers.find_by_node(node) != nullptr; });
    });
    auto merged = merge_tiers(std::move(found), std::span(&said, 1), topology);
    if (!merged) return fail(Code::bad_input, "add tier", said.name, merged.error().hint);
    TierSpec spec = *std::ranges::find(*merged, said.name, &TierSpec::name);
    for (int node : spec.nodes)
        if (const Tier* owner = tiers.find_by_node(node))
            return fail(Code::bad_input, "add tier", said.name,
                        fmt::format("node {} belongs to tier {} already", node, owner->spec.name));
    if (spec.capacity_bytes < least_bytes_)
        return fail(Code::bad_input, "add tier", said.name,
                    fmt::format("give at least {}", format_bytes(least_bytes_)));
    uint8_t number = placement_.add_tier(std::move(spec));
    if (number == kNoTier)
        return fail(Code::no_space, "add tier", said.name, "there are 15 tiers: remove one");
    spdlog::info("tier {} of {}", said.name, format_bytes(tiers.find(number)->capacity_bytes()));
    return describe(*tiers.find(number));
}

Result<TierStatus> TierAdmin::resize(const std::string& name, uint64_t capacity_bytes,
                                     const Topology& topology) {
    TierTable& tiers = placement_.tiers();
    Tier* tier = tiers.find(name);
    if (tier == nullptr) return unknown_tier(tiers, name);
    TierSpec wanted = tier->spec;
    wanted.capacity_bytes = capacity_bytes;
    if (auto fits = check_tier(wanted, topology); !fits) return std::unexpected(fits.error());
    if (tier->number == tiers.system())
        if (auto set = set_budget(capacity_bytes); !set) return std::unexpected(set.error());
    uint64_t least = std::max(least_bytes_, placement_.drainer().pinned_bytes(tier->number));
    if (capacity_bytes < least)
        return fail(Code::bad_input, "resize tier", name,
                    fmt::format("give at least {}, or drain it", format_bytes(least)));
    placement_.resize_tier(tier->number, capacity_bytes);
    return describe(*tier);
}

void TierAdmin::on_topology(const Topology& topology) {
    auditor_.suspect_all();
    for (const std::string& name : shrink_to_memory(topology)) {
        spdlog::warn(
            "the memory of tier {} is gone: what the kernel moved elsewhere counts there, or is dropped",
            name);
        if (auto job = drain(name, true); !job) spdlog::warn("{}", job.error().text());
    }
    for (const TierSpec& spec : class_tiers(topology, 0, share_percent_, {})) {
        bool known =
            spec.nodes.empty() || spec.name == "dram0" || placement_.tiers().find(spec.name) != nullptr ||
            std::ranges::any_of(spec.nodes,
                                [&](int node) { return placement_.tiers().find_by_node(node) != nullptr; });
        if (known) continue;
        if (auto added = add({.name = spec.name}, topology); !added) spdlog::warn("{}", added.error().text());
    }
}

// Returns the names of the tiers without any memory now.
std::vector<std::string> TierAdmin::shrink_to_memory(const Topology& topology) {
    std::vector<std::string> gone;
    TierTable& tiers = placement_.tiers();
    for (Tier* tier : tiers.by_speed()) {
        if (tier->spec.nodes.empty() || tier->number == tiers.system()) continue;
        uint64_t memory = 0;
        for (int node : tier->spec.nodes)
            if (const MemoryNode* there = topology.find(node)) memory += there->total_bytes;
        if (memory == 0 && placement_.jobs().drain_of(tier->number) == nullptr)
            gone.push_back(tier->spec.name);
        if (memory > 0 && memory < tier->capacity_bytes()) {
            spdlog::warn("tier {} shrinks to {} with its memory", tier->spec.name, format_bytes(memory));
            tiers.resize(tier->number, memory / 100 * share_percent_);
        }
        tier->spec.memory_bytes = memory;
    }
    return gone;
}

}  // namespace tierd
