// policies/rules.bpf.c as the kernel runs it: what each key of a rule matches and what each setting does, from TOML to
// marks and proposals.
#define BOOST_TEST_MODULE rules_policy
#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cstring>

#include "lib/base/bytes.h"
#include "lib/base/clock.h"
#include "lib/rules/rules_object.h"
#include "tests/unit/bpf_scene.h"

using namespace tierd;

namespace {

constexpr uint32_t kExtentBytes = 2 * kMiB;
constexpr uint64_t kSecond = kNsPerSecond;

// Two models: "mixtral.gguf" of user 1001, group 77, rows 0 to 9; "gemma.gguf" of user 1002, group 78, rows 10 to 15.
struct Rules : BpfScene {
    std::shared_ptr<BpfObject> object;
    PolicyAnswer answer;
    uint64_t now_ns = 1000 * kSecond;
    uint32_t rows = 0;

    Rules() {
        add_model(0, "mixtral.gguf", 1001, 77);
        add({.role = TIERD_ROLE_EMBEDDING}, TIERD_NO_LAYER);
        add({.role = TIERD_ROLE_ATTENTION}, 0);
        add({.role = TIERD_ROLE_ROUTER}, 0);
        for (uint16_t expert = 0; expert < 3; expert++)
            for (int slice = 0; slice < 2; slice++) add({.expert = expert, .role = TIERD_ROLE_EXPERT}, 0);
        add({.role = TIERD_ROLE_ATTENTION}, 1);
        close_model(0);
        add_model(1, "gemma.gguf", 1002, 78);
        for (uint16_t layer = 0; layer < 6; layer++) add({.role = TIERD_ROLE_FEED_FORWARD}, layer);
        close_model(1);
        tables->tiers()[1] = {.capacity_bytes = kGiB, .kind = TIERD_KIND_DRAM, .rank = 0, .name = "dram0"};
    }

    void add_model(uint32_t slot, std::string_view name, uint32_t uid, uint64_t cgroup) {
        tierd_model& model = tables->models()[slot];
        model = {.first_extent = rows, .cgroup = cgroup, .uid = uid};
        std::memcpy(model.name, name.data(), name.size());
    }
    void add(tierd_extent like, uint16_t layer) {
        bool of_expert = like.role == TIERD_ROLE_EXPERT;
        like.layer = layer;
        if (!of_expert) like.expert = TIERD_NO_EXPERT;
        like.model = tables->models()[1].name[0] == '\0' ? 0 : 1;
        like.bytes = kExtentBytes;
        like.next = of_expert ? rows : rows + 1;
        like.sibling =
            of_expert ? (rows % 2 == 1 ? rows + 1 : rows - 1) : rows;  // slices in pairs, from row 3
        tables->extents()[rows++] = like;
    }
    void close_model(uint32_t slot) {
        tierd_model& model = tables->models()[slot];
        model.extent_count = rows - model.first_extent;
        tables->extents()[rows - 1].next = model.first_extent;  // the pass begins again
    }

    void use(const std::string& toml) {
        RuleLookups none;
        CompiledRules compiled = compile_rules(toml, none);
        BOOST_TEST_REQUIRE(compiled.usable(), notes_text(compiled.notes, toml));
        ObjectFile file = shipped("rules");
        auto filled = put_rules(file.bytes, compiled.table);
        BOOST_REQUIRE(filled.has_value());
        object = loaded({"rules", *filled});
        run(Hook::init, {});
        for (uint32_t slot : {0u, 1u}) run(Hook::model_open, {.model = slot});
    }
    void run(Hook hook, tierd_call call) {
        call.now_ns = now_ns;
        call.extents = rows;
        CallOutcome outcome = object->run(hook, call, answer);
        BOOST_TEST(outcome.failure == 0);
        BOOST_TEST(outcome.verdict == 0);
    }
    // As the engine does it: the touch is in the row, then the policy is told, then the bytes arrive.
    void touch(uint32_t extent) {
        tierd_extent& row = tables->extents()[extent];
        bool missing = row.state != TIERD_EXTENT_RESIDENT;
        row.last_touch_ns = now_ns;
        run(Hook::fault, {.extent = extent, .touch = missing ? TIERD_TOUCH_MISSING : TIERD_TOUCH_MINOR});
        arrives(extent);
    }
    void arrives(uint32_t extent) {
        tierd_extent& row = tables->extents()[extent];
        row.filled_ns = now_ns;
        row.state = TIERD_EXTENT_RESIDENT;
        row.tier = 1;
    }
    void touch_all() {
        for (uint32_t i = 0; i < rows; i++) touch(i);
    }
    void epoch() {
        now_ns += kSecond / 10;
        run(Hook::epoch, {});
    }
    uint64_t score(uint32_t extent) { return object->ctxs()[extent].score; }
    uint64_t eviction_class(uint32_t extent) { return score(extent) >> 60; }
    std::vector<uint32_t> of_class(uint64_t wanted) {
        std::vector<uint32_t> found;
        for (uint32_t i = 0; i < rows; i++)
            if (eviction_class(i) == wanted) found.push_back(i);
        return found;
    }
    std::vector<uint32_t> held() {
        std::vector<uint32_t> found;
        for (uint32_t i = 0; i < rows; i++)
            if (score(i) == TIERD_HOLD) found.push_back(i);
        return found;
    }
    std::vector<uint32_t> proposed(uint32_t kind) {
        std::vector<uint32_t> found;
        for (const tierd_decision& decision : answer.decisions)
            if (decision.kind == kind) found.push_back(decision.extent);
        return found;
    }
};

using Extents = std::vector<uint32_t>;
constexpr uint32_t kEvictLast = TIERD_EVICT_LAST;

struct MatchRow {
    const char* match;
    Extents extents;
};
const MatchRow kMatches[] = {
    {"model = \"mixtral*\"", {0, 1, 2, 3, 4, 5, 6, 7, 8, 9}},
    {"model = \"g?mma.gguf\"", {10, 11, 12, 13, 14, 15}},
    {"model = \"llama*\"", {}},
    {"role = \"attention\"", {1, 9}},
    {"role = [\"embedding\", \"router\"]", {0, 2}},
    {"layer = 1", {9, 11}},
    {"layer = \"0-1\"", {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}},
    {"layer = [\"3-\", 1]", {9, 11, 13, 14, 15}},
    {"expert = 1", {5, 6}},
    {"expert = [0, 2]", {3, 4, 7, 8}},
    {"user = 1002", {10, 11, 12, 13, 14, 15}},
    {"cgroup = 77", {0, 1, 2, 3, 4, 5, 6, 7, 8, 9}},
    {"heat_at_least = 2", {2, 11}},
    {"heat_at_most = 1.5", {0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 12, 13, 14, 15}},
    {"heat_at_least = 1\nheat_at_most = 2.5", {2}},
    {"idle = \"30s\"", {4, 15}},
    {"model = \"mixtral*\"\nrole = \"expert\"\nexpert = \"0-1\"\nidle = \"30s\"", {4}},
    {"model = \"gemma*\"\nuser = 1001", {}},
    {"evict = \"last\"\nlayer = \"9-8\"", {}},
};

}  // namespace

BOOST_GLOBAL_FIXTURE(NeedsBpf);
BOOST_FIXTURE_TEST_SUITE(rules, Rules)

BOOST_AUTO_TEST_CASE(without_rules_what_was_touched_last_is_worth_most) {
    use("");
    for (uint32_t extent : {3u, 1u, 2u}) {
        now_ns += kSecond;
        touch(extent);
    }
    BOOST_TEST(score(3) < score(1));
    BOOST_TEST(score(1) < score(2));
    epoch();
    BOOST_TEST(score(3) < score(1));
    BOOST_TEST(score(1) < score(2));
    now_ns += kSecond;
    touch(3);
    BOOST_TEST(score(3) > score(2));
}

BOOST_AUTO_TEST_CASE(the_shipped_object_and_an_empty_file_of_rules_are_the_same) {
    ObjectFile file = shipped("rules");
    auto filled = put_rules(file.bytes, compile_rules("", {}).table);
    BOOST_TEST((filled.value() == file.bytes));
}

BOOST_AUTO_TEST_CASE(each_key_matches_what_it_says) {
    for (const MatchRow& row : kMatches) {
        std::string match = row.match;
        if (match.find("evict") == match.npos) match += "\nevict = \"last\"";
        use("[[rule]]\n" + match);
        touch_all();
        tables->extents()[2].heat = 2 * 65536;
        tables->extents()[11].heat = 3 * 65536;
        for (uint32_t old : {4u, 15u})
            tables->extents()[old].last_touch_ns = tables->extents()[old].filled_ns = now_ns - 31 * kSecond;
        epoch();
        BOOST_TEST(of_class(kEvictLast) == row.extents, row.match << boost::test_tools::per_element());
        BOOST_TEST(of_class(TIERD_EVICT_NORMAL).size() == rows - row.extents.size(), row.match);
        for (uint32_t i = 0; i < rows; i++) tables->extents()[i].heat = 0;
    }
}

BOOST_AUTO_TEST_CASE(for_each_setting_the_first_rule_that_matches_decides) {
    use("[[rule]]\nrole = \"router\"\nevict = \"last\"\n"
        "[[rule]]\nlayer = 0\nevict = \"first\"\npin = true\n"
        "[[rule]]\nrole = \"attention\"\npin = false\nread_ahead = 0\n"
        "[default]\nevict = \"normal\"\n");
    touch_all();
    BOOST_TEST(held() == (Extents{1, 2, 3, 4, 5, 6, 7, 8, 10}), boost::test_tools::per_element());
    BOOST_TEST(eviction_class(9) == uint64_t{TIERD_EVICT_NORMAL});
    use("[[rule]]\nrole = \"router\"\nevict = \"last\"\n[[rule]]\nlayer = 0\nevict = \"first\"\n");
    touch_all();
    BOOST_TEST(of_class(kEvictLast) == Extents{2}, boost::test_tools::per_element());
    BOOST_TEST(of_class(TIERD_EVICT_FIRST) == (Extents{1, 3, 4, 5, 6, 7, 8, 10}),
               boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(classes_go_before_time) {
    use("[[rule]]\nrole = \"expert\"\nevict = \"first\"\n[[rule]]\nrole = \"router\"\nevict = \"last\"\n");
    for (uint32_t extent : {2u, 1u, 3u}) {
        now_ns += kSecond;
        touch(extent);
    }
    BOOST_TEST(score(3) < score(1));
    BOOST_TEST(score(1) < score(2));
    BOOST_TEST(score(2) < TIERD_HOLD);
}

BOOST_AUTO_TEST_CASE(a_pin_holds_while_its_condition_does) {
    use("[[rule]]\nrole = \"expert\"\nidle = \"10s\"\npin = false\nevict = \"first\"\n[[rule]]\nrole = "
        "\"expert\"\npin = true\n");
    touch_all();
    epoch();
    BOOST_TEST(held() == (Extents{3, 4, 5, 6, 7, 8}), boost::test_tools::per_element());
    now_ns += 10 * kSecond;
    touch(5);
    epoch();
    BOOST_TEST(held() == Extents{5}, boost::test_tools::per_element());
    BOOST_TEST(of_class(TIERD_EVICT_FIRST) == (Extents{3, 4, 6, 7, 8}), boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(what_a_cap_has_too_much_goes_first_and_the_oldest_of_it) {
    use("[[rule]]\nmodel = \"mixtral*\"\ncap = \"8MiB\"\npin = true\n[default]\nread_ahead = 0\n");
    uint64_t step_ns = 400 * kSecond;
    for (uint32_t extent : {7u, 3u, 9u, 1u, 5u}) {
        arrives(extent);
        tables->extents()[extent].last_touch_ns = now_ns;
        now_ns += step_ns;
        step_ns /= 4;  // each in an idle-time class of its own
    }
    for (uint32_t other : {10u, 11u}) touch(other);
    epoch();  // counts
    epoch();  // knows
    BOOST_TEST(of_class(TIERD_EVICT_FIRST) == Extents{7}, boost::test_tools::per_element());
    BOOST_TEST(held() == (Extents{1, 3, 5, 9}), boost::test_tools::per_element());
    tables->extents()[7].state = TIERD_EXTENT_ABSENT;
    epoch();
    epoch();
    BOOST_TEST(held() == (Extents{1, 3, 5, 9}), boost::test_tools::per_element());
    BOOST_TEST(of_class(TIERD_EVICT_NORMAL) == (Extents{10, 11}), boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(of_equally_old_extents_no_more_go_first_than_the_cap_has_too_much) {
    use("[[rule]]\nmodel = \"gemma*\"\ncap = \"4MiB\"\n");
    for (uint32_t extent = 10; extent < 16; extent++) {
        arrives(extent);
        tables->extents()[extent].last_touch_ns = now_ns;
    }
    now_ns += kSecond;
    epoch();
    epoch();
    BOOST_TEST(of_class(TIERD_EVICT_FIRST).size() == 4u);
    BOOST_TEST(of_class(TIERD_EVICT_NORMAL).size() == 2u);
}

BOOST_AUTO_TEST_CASE(between_epochs_what_is_missed_above_the_cap_goes_first) {
    use("[[rule]]\nmodel = \"gemma*\"\ncap = \"5MiB\"\n[default]\nread_ahead = 0\n");
    for (uint32_t extent = 10; extent < 14; extent++) touch(extent);
    BOOST_TEST(of_class(TIERD_EVICT_NORMAL) == (Extents{10, 11}), boost::test_tools::per_element());
    BOOST_TEST(of_class(TIERD_EVICT_FIRST) == (Extents{12, 13}), boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(a_cap_is_of_each_rule_on_its_own) {
    use("[[rule]]\nuser = 1001\ncap = \"4MiB\"\n[[rule]]\nuser = 1002\ncap = \"6MiB\"\n");
    for (uint32_t i = 0; i < rows; i++) {
        arrives(i);
        tables->extents()[i].last_touch_ns = now_ns;
    }
    epoch();
    epoch();
    auto first = of_class(TIERD_EVICT_FIRST);
    auto of_first_model = std::ranges::count_if(first, [](uint32_t extent) { return extent < 10; });
    BOOST_TEST(of_first_model == 8);
    BOOST_TEST(first.size() == 8u + 3u);
}

BOOST_AUTO_TEST_CASE(what_follows_is_read_ahead_as_deep_as_the_rule_says) {
    use("[[rule]]\nmodel = \"gemma*\"\nread_ahead = 3\n[default]\nread_ahead = 0\n");
    touch(10);
    BOOST_TEST(proposed(TIERD_READ_AHEAD) == (Extents{11, 12, 13}), boost::test_tools::per_element());
    for (uint32_t extent : {11u, 12u, 13u})
        BOOST_TEST(eviction_class(extent) == uint64_t{TIERD_EVICT_NORMAL});
    for (uint32_t extent : {11u, 12u}) arrives(extent);
    touch(11);
    BOOST_TEST(proposed(TIERD_READ_AHEAD) == (Extents{13, 14}), boost::test_tools::per_element());
    touch(15);  // the last one: the pass begins again
    BOOST_TEST(proposed(TIERD_READ_AHEAD).empty());
    touch(0);
    BOOST_TEST(proposed(TIERD_READ_AHEAD).empty());
}

BOOST_AUTO_TEST_CASE(a_pass_that_begins_again_is_followed_past_its_end_but_not_twice) {
    use("[default]\nread_ahead = 100\n");
    touch(14);
    BOOST_TEST(proposed(TIERD_READ_AHEAD) == (Extents{15, 10, 11, 12, 13}), boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(of_an_expert_its_other_slices_are_read_ahead) {
    use("");
    touch(5);
    BOOST_TEST(proposed(TIERD_READ_AHEAD) == Extents{6}, boost::test_tools::per_element());
    arrives(6);
    touch(6);
    BOOST_TEST(proposed(TIERD_READ_AHEAD).empty());
}

BOOST_AUTO_TEST_CASE(what_was_read_ahead_counts_from_its_arrival_until_it_is_touched) {
    use("[default]\nread_ahead = 1\n");
    touch(10);
    now_ns += kSecond;
    arrives(11);
    epoch();
    BOOST_TEST(score(11) > score(10));
}

BOOST_AUTO_TEST_CASE(an_extent_moves_to_the_tier_that_its_rule_prefers) {
    tables->tiers()[2] = {.capacity_bytes = kGiB, .kind = TIERD_KIND_CXL, .rank = 1, .name = "cxl2"};
    tables->tiers()[3] = {.capacity_bytes = kGiB, .kind = TIERD_KIND_CXL, .rank = 2, .name = "cxl3"};
    use("[[rule]]\nrole = \"expert\"\ntier = \"cxl\"\n[[rule]]\nmodel = \"gemma*\"\ntier = \"cxl3\"\n");
    touch_all();
    tables->extents()[4].tier = 3;  // is in one already
    epoch();
    BOOST_TEST(proposed(TIERD_MOVE) == (Extents{3, 5, 6, 7, 8, 10, 11, 12, 13, 14, 15}),
               boost::test_tools::per_element());
    for (const tierd_decision& move : answer.decisions) BOOST_TEST(move.tier == (move.extent < 10 ? 2u : 3u));
    tables->tiers()[2].used_bytes = kGiB;  // full: the next of its kind
    tables->tiers()[3].draining = 1;       // and that one takes nothing
    epoch();
    BOOST_TEST(proposed(TIERD_MOVE).empty());
    tables->tiers()[3].draining = 0;
    epoch();
    BOOST_TEST(answer.decisions.size() == 11u);
    for (const tierd_decision& move : answer.decisions) BOOST_TEST(move.tier == 3u);
}

BOOST_AUTO_TEST_CASE(an_epoch_proposes_few_moves) {
    tables->tiers()[2] = {.capacity_bytes = kGiB, .kind = TIERD_KIND_CXL, .rank = 1, .name = "cxl2"};
    add_model(1, "gemma.gguf", 1002, 78);
    for (int i = 0; i < 200; i++) add({.role = TIERD_ROLE_OTHER}, TIERD_NO_LAYER);
    close_model(1);
    use("[default]\ntier = \"cxl*\"\nread_ahead = 0\n");
    touch_all();
    epoch();
    BOOST_TEST(answer.decisions.size() == 64u);
    BOOST_TEST(answer.dropped == 0u);
}

BOOST_AUTO_TEST_CASE(the_last_of_as_many_rules_as_fit_decides_too) {
    std::string toml;
    for (int i = 0; i < TIERD_DEFAULT_RULE - 1; i++)
        toml += "[[rule]]\nlayer = " + std::to_string(1000 + i) + "\npin = true\n";
    use(toml + "[[rule]]\nmodel = \"gemma*\"\nlayer = 5\nevict = \"last\"\n");
    touch_all();
    BOOST_TEST(of_class(kEvictLast) == Extents{15}, boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(a_large_table_is_looked_at_in_several_epochs) {
    add_model(1, "gemma.gguf", 1002, 78);
    while (rows < 40000) add({.role = TIERD_ROLE_OTHER}, 0);
    close_model(1);
    use("[[rule]]\nlayer = 0\nevict = \"last\"\n");
    for (uint32_t i = 0; i < rows; i++) arrives(i);
    uint32_t last = rows - 1;
    epoch();
    BOOST_TEST(eviction_class(10000) == uint64_t{TIERD_EVICT_LAST});
    BOOST_TEST(score(last) == 0u);
    epoch();
    epoch();
    BOOST_TEST(eviction_class(last) == uint64_t{TIERD_EVICT_LAST});
    epoch();
    BOOST_TEST(eviction_class(last) == uint64_t{TIERD_EVICT_LAST});
}

BOOST_AUTO_TEST_CASE(rows_that_change_while_it_runs_are_never_older_than_time) {
    use("[[rule]]\nidle = \"1s\"\nevict = \"first\"\n");
    touch(1);
    tables->extents()[1].last_touch_ns = now_ns + 5 * kSecond;  // touched after the call began
    epoch();
    BOOST_TEST(eviction_class(1) == uint64_t{TIERD_EVICT_NORMAL});
}

BOOST_AUTO_TEST_CASE(extents_and_models_that_are_not_there_are_nothing) {
    use("[default]\nread_ahead = 8\n");
    run(Hook::fault, {.extent = kRoom + 7});
    run(Hook::fault, {.extent = kRoom - 1});
    run(Hook::model_open, {.model = TIERD_MAX_MODELS - 1});
    run(Hook::model_open, {.model = TIERD_MAX_MODELS + 1});
    rows = 0;
    epoch();
    BOOST_TEST(answer.decisions.empty());
}

BOOST_AUTO_TEST_SUITE_END()
