// rules_toml.h - compiles an administrator's placement rules in TOML to the table that the policy `rules` reads.
//
// Owns:      the TOML keys and their meaning. docs/rules.md lists them.
// Invariant: a table without an error holds only numbers that bpf/tierd_rules.h allows, and always ends in a rule that
//            decides everything.
// Callers:   any thread. Pure, except for lookups of users and control groups, which the caller provides.
// Fails:     never by itself: every mistake is a note with its line and column; all are returned together.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "bpf/tierd_rules.h"
#include "lib/base/result.h"

namespace tierd {

using RuleTable = std::array<tierd_rule, TIERD_MAX_RULES>;

struct RuleNote {
    bool is_error = false;  // else a warning: the rules can be used, but hardly mean what they say
    uint32_t line = 0;
    uint32_t column = 0;
    std::string text;
};

struct CompiledRules {
    RuleTable table{};
    uint32_t rules = 0;           // without the default
    std::vector<RuleNote> notes;  // in the order of lines

    bool usable() const;  // no error among the notes
};

// Names of this machine. Errors: not_found, with what to write instead.
struct RuleLookups {
    std::function<Result<uint32_t>(const std::string& user)> user;
    std::function<Result<uint64_t>(const std::string& path)> cgroup;
};
// The machine's user database and /sys/fs/cgroup.
RuleLookups machine_lookups();

CompiledRules compile_rules(std::string_view text, const RuleLookups& lookups);

// "rules.toml:12:5: error: unknown key ..." for each note, a line each.
std::string notes_text(const std::vector<RuleNote>& notes, std::string_view source);

// A table with nothing but the default, as the shipped object has it.
RuleTable default_rules();

}  // namespace tierd
