// builtin.cc - the policies that are compiled in, by name.
//
// A policy from elsewhere is one more class behind Policy. For an eBPF object that class calls, one for one:
// tierd/init when it is made, tierd/model_open in model_open(), tierd/model_close in model_close(),
// tierd/fault in fault(), tierd/epoch in epoch(), tierd/exit when it goes. The table that PolicyView shows is
// then the array that the programs map. filled(), evicted() and reclaim() have no hook of their own: their
// news is in the rows' state, and the victims for reclaim() are those that the programs named in tierd/fault
// and tierd/epoch, with a built-in policy's where these do not suffice.
#include <array>

#include "lib/policy/adaptive.h"
#include "lib/policy/lru.h"
#include "lib/policy/tiering.h"

namespace tierd {

namespace {

std::unique_ptr<Policy> make_inner(std::string_view name) {
    if (name == "lru") return std::make_unique<LruPolicy>();
    if (name == "sweep") return std::make_unique<AdaptivePolicy>(AdaptivePolicy::Choice::always_sweep);
    if (name == "auto") return std::make_unique<AdaptivePolicy>(AdaptivePolicy::Choice::by_score);
    return nullptr;
}

}  // namespace

std::unique_ptr<Policy> make_builtin_policy(std::string_view name) {
    auto inner = make_inner(name);
    return inner ? std::make_unique<TieredPolicy>(std::move(inner)) : nullptr;
}

std::span<const std::string_view> builtin_policy_names() {
    static constexpr std::array<std::string_view, 3> kNames{"auto", "sweep", "lru"};
    return kNames;
}

}  // namespace tierd
