// rule_values.h - parses the values of rules: ranges, times, names, sizes.
//
// Owns:      nothing; each function sets its part of a rule.
// Invariant: the rule is unchanged if a problem is returned.
// Callers:   the compiler of rules. Pure.
// Fails:     the problem: what to write instead, as the end of a sentence.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "bpf/tierd_rules.h"
#include "lib/rules/rules_toml.h"

namespace tierd {

// What TOML can say that a rule understands; monostate is everything else.
using RuleScalar = std::variant<std::monostate, bool, int64_t, double, std::string>;

struct RuleValue {
    std::vector<RuleScalar> items;  // one, or those of a list
    bool is_list = false;
};

struct ValueProblem {
    std::string text;         // empty: none
    bool is_warning = false;  // the value was taken, but can never match
    explicit operator bool() const { return !text.empty(); }
};

// A key of a rule. The keys of what matches come first.
struct RuleKey {
    std::string_view name;
    bool is_setting;
    ValueProblem (*set)(tierd_rule& rule, const RuleValue& value, const RuleLookups& lookups);
};
std::span<const RuleKey> rule_keys();
const RuleKey* find_rule_key(std::string_view name);

std::string_view setting_key(int setting);  // "evict" for TIERD_SETS_EVICT

// A rule that matches everything and sets nothing.
tierd_rule blank_rule();

// The name in `known` that was probably meant; empty: none is near.
std::string_view nearest_name(std::string_view written, std::span<const std::string_view> known);

}  // namespace tierd
