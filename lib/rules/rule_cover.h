// rule_cover.h - does one rule match everything that another matches? For warnings about rules that can never decide.
//
// Callers:   any thread; pure.
// Fails:     never; if it can't decide (patterns may overlap in odd ways) it returns false.
#pragma once

#include <string_view>

#include "bpf/tierd_rules.h"

namespace tierd {

bool covers(const tierd_rule& wide, const tierd_rule& narrow) noexcept;

// Does `wide` match each name that `narrow` matches? Both with `*` and `?`.
bool pattern_covers(std::string_view wide, std::string_view narrow) noexcept;

}  // namespace tierd
