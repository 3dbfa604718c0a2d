// builtin.cc - the policies that are compiled in, by name.
//
// Owns:      the table of their names. BpfPolicy is the class for policies that are loaded.
// Callers:   any thread.
// Fails:     make_builtin_policy(): null for a name that is not in the table.
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
