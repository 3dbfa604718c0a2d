// rules_fuzz.cc - fuzz target: any bytes as a file of rules. Aborts where rules are accepted that bpf/tierd_rules.h does not
// allow, or something is refused without a word.
//
// Owns:      nothing.
// Callers:   libFuzzer's main or replay_main.cc, one thread.
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "lib/rules/rules_toml.h"

using namespace tierd;

static RuleLookups deaf_lookups() {
    return {[](const std::string& user) -> Result<uint32_t> { return fail(Code::not_found, "find", user); },
            [](const std::string& path) -> Result<uint64_t> { return fail(Code::not_found, "find", path); }};
}

static void require(bool holds, const char* what) {
    if (!holds) {
        std::fprintf(stderr, "broken: %s\n", what);
        std::abort();
    }
}

static void check_rules(std::string_view text) {
    CompiledRules compiled = compile_rules(text, deaf_lookups());
    require(compiled.rules <= TIERD_DEFAULT_RULE, "too many rules");
    for (const RuleNote& note : compiled.notes) require(!note.text.empty(), "a note without words");
    if (!compiled.usable()) return;
    for (uint32_t i = 0; i < compiled.table.size(); i++) {
        const tierd_rule& rule = compiled.table[i];
        require((rule.sets != 0) == (i < compiled.rules), "the rules have a gap");
        require(rule.sets >> NR_TIERD_RULE_SETTINGS == 0, "a setting that is none");
        require(std::memchr(rule.model, 0, sizeof rule.model) != nullptr, "a model without end");
        require(std::memchr(rule.tier, 0, sizeof rule.tier) != nullptr, "a tier without end");
        require(rule.read_ahead <= 128 && rule.pin <= 1 && rule.evict <= TIERD_EVICT_LAST, "out of range");
        require(rule.tier_kind < NR_TIERD_KINDS && rule.reserved == 0, "out of range");
    }
    require(compiled.table[TIERD_DEFAULT_RULE].evict >= TIERD_EVICT_FIRST, "a default without class");
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    check_rules({reinterpret_cast<const char*>(data), size});
    return 0;
}
