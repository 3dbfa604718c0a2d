// Rules as people write them: what they compile to, and what is said of every kind of mistake, at its line and column.
#define BOOST_TEST_MODULE rules_toml
#include "lib/rules/rules_toml.h"

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cstring>

#include "lib/base/clock.h"
#include "lib/rules/rule_cover.h"
#include "lib/rules/rules_object.h"

using namespace tierd;

namespace {

RuleLookups lookups() {
    return {[](const std::string& user) -> Result<uint32_t> {
                if (user == "alice") return 1001u;
                return fail(Code::not_found, "find the user", user);
            },
            [](const std::string& path) -> Result<uint64_t> {
                if (path == "/system.slice/llm.service") return 4242u;
                return fail(Code::not_found, "find the control group", path);
            }};
}

std::string notes_of(std::string_view text) {
    return notes_text(compile_rules(text, lookups()).notes, "r");
}

// One rule of one line: its match or setting, and something that it sets.
tierd_rule rule_of(const std::string& key) {
    CompiledRules compiled = compile_rules("[[rule]]\n" + key + "\n", lookups());
    BOOST_TEST_REQUIRE(compiled.usable(), notes_text(compiled.notes, key));
    BOOST_TEST(compiled.rules == 1u);
    return compiled.table[0];
}
tierd_rule match_of(const std::string& key) {
    return rule_of(key + "\nevict = \"last\"");
}

std::vector<std::pair<int, int>> ranges_of(const tierd_rule_range (&ranges)[TIERD_RULE_RANGES]) {
    std::vector<std::pair<int, int>> out;
    for (const auto& range : ranges)
        if (range.first <= range.last) out.push_back({range.first, range.last});
    return out;
}

struct MistakeRow {
    int source_line;
    std::string_view toml;
    std::vector<std::string>
        says;  // "line:column: kind: " and words, one entry a note; all of them, in order
};

// clang-format off
const MistakeRow kMistakes[] = {
    {__LINE__, "", {}},
    {__LINE__, "[[rule]]\npin = true\n", {}},
    {__LINE__, "rule = 3", {"1:1: error: a rule begins with [[rule]]"}},
    {__LINE__, "[rule]\npin = true", {"1:2: error: a rule begins with [[rule]]"}},
    {__LINE__, "rule = [1]", {"1:1: error: a rule begins with [[rule]]"}},
    {__LINE__, "[[rules]]\npin = true", {"1:3: error: unknown section rules; did you mean rule?"}},
    {__LINE__, "[qqqqqqqq]", {"1:2: error: unknown section qqqqqqqq; there are rule, default"}},
    {__LINE__, "[[rule]]\nmodle = \"a\"\npin = true", {"2:1: error: unknown key modle; did you mean model?"}},
    {__LINE__, "[[rule]]\nexperts = 1\npin = true", {"2:1: error: unknown key experts; did you mean expert?"}},
    {__LINE__, "[[rule]]\nzzzzzzzzzzz = 1\npin = true", {"2:1: error: unknown key zzzzzzzzzzz; there are name, model, role"}},
    {__LINE__, "[[rule]]\nmodel = \"a\"", {"1:1: error: the rule decides nothing: add one of pin, evict, cap, tier, read_ahead"}},
    {__LINE__, "[[rule]]\nname = 4\npin = true", {"2:8: error: name: write a text in quotes"}},
    {__LINE__, "[[rule]]\nmodel = 7\npin = true", {"2:9: error: model: write a pattern of 1 to 63 bytes"}},
    {__LINE__, "[[rule]]\nmodel = \"\"\npin = true", {"2:9: error: model:"}},
    {__LINE__, "[[rule]]\nmodel = \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"\npin = true", {"2:9: error: model:"}},
    {__LINE__, "[[rule]]\nmodel = \"a\\u0000b\"\npin = true", {"2:9: error: model:"}},
    {__LINE__, "[[rule]]\nrole = \"experts\"\npin = true", {"2:8: error: role: write one of \"other\", \"embedding\""}},
    {__LINE__, "[[rule]]\nrole = [\"norm\", 3]\npin = true", {"2:8: error: role:"}},
    {__LINE__, "[[rule]]\nrole = []\npin = true", {"2:8: warning: role: the list is empty: the rule can never match"}},
    {__LINE__, "[[rule]]\nlayer = -1\npin = true", {"2:9: error: layer: write a number such as 5"}},
    {__LINE__, "[[rule]]\nlayer = 65535\npin = true", {"2:9: error: layer:"}},
    {__LINE__, "[[rule]]\nlayer = \"1-2-3\"\npin = true", {"2:9: error: layer:"}},
    {__LINE__, "[[rule]]\nlayer = \"-3\"\npin = true", {"2:9: error: layer:"}},
    {__LINE__, "[[rule]]\nlayer = \"1 - 3\"\npin = true", {"2:9: error: layer:"}},
    {__LINE__, "[[rule]]\nlayer = 1.5\npin = true", {"2:9: error: layer:"}},
    {__LINE__, "[[rule]]\nlayer = \"5-3\"\npin = true", {"2:9: warning: layer: nothing is in it: the rule can never match"}},
    {__LINE__, "[[rule]]\nlayer = [\"5-3\", 4]\npin = true", {"2:9: warning: layer: nothing is in \"5-3\""}},
    {__LINE__, "[[rule]]\nlayer = [0,2,4,6,8,10,12,14,16]\npin = true", {"2:9: error: layer: at most 8 ranges"}},
    {__LINE__, "[[rule]]\nexpert = \"x\"\npin = true", {"2:10: error: expert: write a number"}},
    {__LINE__, "[[rule]]\nexpert = 3\nrole = \"attention\"\npin = true", {"1:1: warning: the rule can never match: only extents of role expert"}},
    {__LINE__, "[[rule]]\nuser = \"bob\"\npin = true", {"2:8: error: user: cannot find the user bob"}},
    {__LINE__, "[[rule]]\nuser = 4294967295\npin = true", {"2:8: error: user: write a user's name"}},
    {__LINE__, "[[rule]]\nuser = -1\npin = true", {"2:8: error: user:"}},
    {__LINE__, "[[rule]]\ncgroup = \"/none\"\npin = true", {"2:10: error: cgroup: cannot find the control group /none"}},
    {__LINE__, "[[rule]]\ncgroup = \"none\"\npin = true", {"2:10: error: cgroup: write the group's path"}},
    {__LINE__, "[[rule]]\ncgroup = 0\npin = true", {"2:10: error: cgroup:"}},
    {__LINE__, "[[rule]]\nheat_at_least = 65536\npin = true", {"2:17: error: heat_at_least: write a number from 0 to 65535"}},
    {__LINE__, "[[rule]]\nheat_at_most = -0.5\npin = true", {"2:16: error: heat_at_most:"}},
    {__LINE__, "[[rule]]\nheat_at_most = nan\npin = true", {"2:16: error: heat_at_most:"}},
    {__LINE__, "[[rule]]\nheat_at_least = 3\nheat_at_most = 2.5\npin = true", {"1:1: warning: the rule can never match: heat_at_least is above heat_at_most"}},
    {__LINE__, "[[rule]]\nidle = 10\npin = true", {"2:8: error: idle: write a time such as \"500ms\""}},
    {__LINE__, "[[rule]]\nidle = \"10 s\"\npin = true", {"2:8: error: idle:"}},
    {__LINE__, "[[rule]]\nidle = \"10001d\"\npin = true", {"2:8: error: idle:"}},
    {__LINE__, "[[rule]]\nidle = \"99999999999999999999s\"\npin = true", {"2:8: error: idle:"}},
    {__LINE__, "[[rule]]\npin = 1", {"2:7: error: pin: write true or false"}},
    {__LINE__, "[[rule]]\nevict = \"never\"", {"2:9: error: evict: write one of \"first\", \"normal\", \"last\"; what must stay is `pin = true`"}},
    {__LINE__, "[[rule]]\ncap = 4", {"2:7: error: cap: write a size in quotes"}},
    {__LINE__, "[[rule]]\ncap = \"-4GiB\"", {"2:7: error: cap:"}},
    {__LINE__, "[[rule]]\ntier = \"\"", {"2:8: error: tier: write a pattern of 1 to 15 bytes"}},
    {__LINE__, "[[rule]]\ntier = 1", {"2:8: error: tier:"}},
    {__LINE__, "[[rule]]\nread_ahead = 129", {"2:14: error: read_ahead: write a number of extents from 0 to 128"}},
    {__LINE__, "[[rule]]\nread_ahead = \"8\"", {"2:14: error: read_ahead:"}},
    {__LINE__, "default = 3", {"1:1: error: write [default]"}},
    {__LINE__, "[default]\nmodel = \"a\"", {"2:1: error: model: [default] is for all extents"}},
    {__LINE__, "[default]\ncap = \"1GiB\"", {"2:1: error: cap: the cap of everything is the budget"}},
    {__LINE__, "[default]\nread_ahaed = 1", {"2:1: error: unknown key read_ahaed; did you mean read_ahead?"}},
    {__LINE__, "[[rule]]\npin = true\npin = false", {"3:7: error:"}},
    {__LINE__, "[[rule]]\npin = ", {"2:7: error:"}},
    {__LINE__, "\xff", {"1:1: error:"}},
    // all at once, in the order of lines
    {__LINE__, "[[rule]]\nmodle = 1\n\n[[rule]]\nrole = \"x\"\nevict = 2\n", {"1:1: error: the rule decides nothing", "2:1: error: unknown key", "5:8: error: role", "6:9: error: evict"}},
    // what an earlier rule decides
    {__LINE__, "[[rule]]\nmodel = \"a*\"\npin = true\n[[rule]]\nmodel = \"ab\"\npin = false", {"6:7: warning: pin never decides here: the rule of line 1 is above it"}},
    {__LINE__, "[[rule]]\nname = \"all\"\nevict = \"last\"\n[[rule]]\nmodel = \"ab\"\npin = true\nevict = \"first\"", {"7:9: warning: evict never decides here: \"all\" (line 1) is above it"}},
    {__LINE__, "[[rule]]\nmodel = \"ab\"\npin = true\n[[rule]]\nmodel = \"a*\"\npin = false", {}},
    {__LINE__, "[[rule]]\nread_ahead = 1\n[default]\nread_ahead = 2", {"4:14: warning: read_ahead never decides here"}},
    {__LINE__, "[[rule]]\nuser = 5\npin = true\n[[rule]]\nuser = 6\npin = true", {}},
};
// clang-format on

}  // namespace

BOOST_AUTO_TEST_CASE(every_mistake_is_said_at_its_line_and_column_with_what_to_do) {
    for (const MistakeRow& row : kMistakes) {
        CompiledRules compiled = compile_rules(row.toml, lookups());
        std::string text = notes_text(compiled.notes, "r");
        std::string where = "row of line " + std::to_string(row.source_line) + " said:\n" + text;
        BOOST_TEST(compiled.notes.size() == row.says.size(), where);
        for (const std::string& say : row.says)
            BOOST_TEST(text.find("r:" + say) != text.npos, say << "\n" << where);
        bool any_error = text.find(": error: ") != text.npos;
        BOOST_TEST(compiled.usable() == !any_error);
    }
}

BOOST_AUTO_TEST_CASE(what_a_rule_does_not_name_it_matches) {
    tierd_rule rule = rule_of("pin = true");
    BOOST_TEST(std::string(rule.model) == "*");
    BOOST_TEST(rule.cgroup == 0u);
    BOOST_TEST(rule.uid == TIERD_ANY_USER);
    BOOST_TEST(rule.roles == TIERD_ANY_ROLE);
    BOOST_TEST(rule.heat_least == 0u);
    BOOST_TEST(rule.heat_most == TIERD_ANY_HEAT);
    BOOST_TEST(rule.idle_ns == 0u);
    BOOST_TEST((ranges_of(rule.layers) == std::vector<std::pair<int, int>>{{0, TIERD_NO_LAYER}}));
    BOOST_TEST((ranges_of(rule.experts) == std::vector<std::pair<int, int>>{{0, TIERD_NO_EXPERT}}));
    BOOST_TEST(rule.sets == 1u << TIERD_SETS_PIN);
}

BOOST_AUTO_TEST_CASE(each_key_of_a_match_compiles_to_its_bounds) {
    BOOST_TEST(std::string(match_of("model = \"mix*\"").model) == "mix*");
    BOOST_TEST(match_of("role = \"router\"").roles == 1u << TIERD_ROLE_ROUTER);
    BOOST_TEST(match_of("role = [\"head\", \"other\"]").roles == (1u << TIERD_ROLE_HEAD | 1u));
    BOOST_TEST(match_of("user = 7").uid == 7u);
    BOOST_TEST(match_of("user = \"alice\"").uid == 1001u);
    BOOST_TEST(match_of("cgroup = \"/system.slice/llm.service\"").cgroup == 4242u);
    BOOST_TEST(match_of("cgroup = 99").cgroup == 99u);
    BOOST_TEST(match_of("heat_at_least = 2.5").heat_least == 2 * 65536u + 32768);
    BOOST_TEST(match_of("heat_at_most = 1").heat_most == 65536u);
    BOOST_TEST(match_of("idle = \"500ms\"").idle_ns == kNsPerSecond / 2);
    BOOST_TEST(match_of("idle = \"2h\"").idle_ns == 7200 * kNsPerSecond);
    BOOST_TEST(match_of("idle = \"10000d\"").idle_ns == 864'000'000 * kNsPerSecond);
}

BOOST_AUTO_TEST_CASE(ranges_are_numbers_pairs_open_ends_and_lists_merged) {
    using Pairs = std::vector<std::pair<int, int>>;
    BOOST_TEST((ranges_of(match_of("layer = 5").layers) == Pairs{{5, 5}}));
    BOOST_TEST((ranges_of(match_of("layer = \"0-3\"").layers) == Pairs{{0, 3}}));
    BOOST_TEST((ranges_of(match_of("layer = \"12-\"").layers) == Pairs{{12, 65534}}));
    BOOST_TEST((ranges_of(match_of("expert = [9, 1, \"2-4\", 7, \"3-5\"]").experts) ==
                Pairs{{1, 5}, {7, 7}, {9, 9}}));
    BOOST_TEST((ranges_of(match_of("expert = [\"0-65534\", 3]").experts) == Pairs{{0, 65534}}));
}

BOOST_AUTO_TEST_CASE(each_setting_compiles_to_its_value) {
    BOOST_TEST(rule_of("pin = false").sets == 1u << TIERD_SETS_PIN);
    BOOST_TEST(rule_of("evict = \"first\"").evict == TIERD_EVICT_FIRST);
    BOOST_TEST(rule_of("evict = \"last\"").evict == TIERD_EVICT_LAST);
    BOOST_TEST(rule_of("cap = \"4GiB\"").cap_bytes == 4ull << 30);
    BOOST_TEST(rule_of("tier = \"cxl\"").tier_kind == TIERD_KIND_CXL);
    tierd_rule named = rule_of("tier = \"cxl2\"");
    BOOST_TEST(named.tier_kind == 0u);
    BOOST_TEST(std::string(named.tier) == "cxl2");
    BOOST_TEST(rule_of("read_ahead = 0").sets == 1u << TIERD_SETS_READ_AHEAD);
}

BOOST_AUTO_TEST_CASE(the_default_stands_last_and_is_changed_by_its_section) {
    CompiledRules none = compile_rules("", lookups());
    BOOST_TEST(none.rules == 0u);
    BOOST_TEST(none.table[0].sets == 0u);
    BOOST_TEST(none.table[TIERD_DEFAULT_RULE].evict == TIERD_EVICT_NORMAL);
    BOOST_TEST(none.table[TIERD_DEFAULT_RULE].read_ahead == uint32_t{TIERD_DEFAULT_READ_AHEAD});
    CompiledRules some = compile_rules("[default]\nread_ahead = 3\nevict = \"first\"", lookups());
    BOOST_TEST(some.table[TIERD_DEFAULT_RULE].read_ahead == 3u);
    BOOST_TEST(some.table[TIERD_DEFAULT_RULE].evict == TIERD_EVICT_FIRST);
    BOOST_TEST(some.table[TIERD_DEFAULT_RULE].cap_bytes == UINT64_MAX);
}

BOOST_AUTO_TEST_CASE(as_many_rules_fit_as_the_table_has_places_beside_the_default) {
    std::string text;
    for (int i = 0; i < TIERD_DEFAULT_RULE; i++)
        text += "[[rule]]\nlayer = " + std::to_string(i) + "\npin = true\n";
    BOOST_TEST(notes_of(text) == "");
    text += "[[rule]]\nlayer = 100\npin = true\n";
    BOOST_TEST(notes_of(text) == "r:190:1: error: there are more than 63 rules; let some match more\n");
}

BOOST_AUTO_TEST_CASE(a_pattern_covers_another_only_when_it_must) {
    struct Row {
        std::string_view wide, narrow;
        bool covers;
    };
    for (auto [wide, narrow, yes] : std::initializer_list<Row>{{"*", "a", true},
                                                               {"*", "*", true},
                                                               {"*", "?", true},
                                                               {"?", "*", false},
                                                               {"?", "?", true},
                                                               {"?", "a", true},
                                                               {"a", "?", false},
                                                               {"a*", "ab*", true},
                                                               {"ab*", "a*", false},
                                                               {"*a", "*ba", true},
                                                               {"a*b", "a?b", true},
                                                               {"a*b", "axyb", true},
                                                               {"a?b", "a*b", false},
                                                               {"*x*", "axb", true},
                                                               {"*x*", "a*b", false},
                                                               {"", "", true},
                                                               {"", "a", false}}) {
        BOOST_TEST(pattern_covers(wide, narrow) == yes, wide << " over " << narrow);
    }
}

BOOST_AUTO_TEST_CASE(rules_go_only_into_an_object_that_has_their_array) {
    RuleTable table = default_rules();
    for (std::string bytes : {std::string(), std::string("no object"), std::string(4096, '\x7f')}) {
        auto put = put_rules(bytes, table);
        BOOST_TEST_REQUIRE(!put.has_value());
        BOOST_TEST(put.error().hint == "take tierctl and rules.bpf.o of the same version");
    }
}
