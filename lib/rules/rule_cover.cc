#include "lib/rules/rule_cover.h"

#include <algorithm>
#include <span>

namespace tierd {
namespace {

using Ranges = std::span<const tierd_rule_range>;

// Ranges of a rule are merged where they touch, so one that is covered lies in one.
bool ranges_cover(Ranges wide, Ranges narrow) noexcept {
    return std::ranges::all_of(narrow, [&](const tierd_rule_range& inner) {
        return inner.last < inner.first ||
               std::ranges::any_of(
                   wide,
                   [&](const tierd_rule_range& outer) {
                       return outer.first <= inner.first && inner.last <= outer.last;
                   });
    });
}

}  // namespace

// A `*` of the narrow one matches anything, so only a `*` can match it; a `?` for any one character.
bool pattern_covers(std::string_view wide, std::string_view narrow) noexcept {
    size_t w = 0, n = 0, star = wide.npos, kept = 0;
    while (n < narrow.size()) {
        if (w < wide.size() && wide[w] == '*') {
            star = w++;
            kept = n;
        } else if (w < wide.size() && narrow[n] != '*' && (wide[w] == '?' || wide[w] == narrow[n])) {
            ++w;
            ++n;
        } else if (star != wide.npos) {
            w = star + 1;
            n = ++kept;
        } else {
            return false;
        }
    }
    return std::ranges::all_of(wide.substr(w), [](char c) { return c == '*'; });
}

bool covers(const tierd_rule& wide, const tierd_rule& narrow) noexcept {
    return pattern_covers(wide.model, narrow.model) && (wide.cgroup == 0 || wide.cgroup == narrow.cgroup) &&
           (wide.uid == TIERD_ANY_USER || wide.uid == narrow.uid) && (narrow.roles & ~wide.roles) == 0 &&
           ranges_cover(wide.layers, narrow.layers) && ranges_cover(wide.experts, narrow.experts) &&
           wide.heat_least <= narrow.heat_least && wide.heat_most >= narrow.heat_most &&
           wide.idle_ns <= narrow.idle_ns;
}

}  // namespace tierd
