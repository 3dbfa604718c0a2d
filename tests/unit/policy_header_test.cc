// What bpf/tierd.bpf.h offers to authors, as the kernel runs it: patterns, walks, logs.
#define BOOST_TEST_MODULE policy_header
#include <boost/test/unit_test.hpp>
#include <cstring>

#include "tests/unit/bpf_scene.h"

using namespace tierd;

namespace {

struct Header : BpfScene {
    std::shared_ptr<BpfObject> object = loaded(test_object("header"));
    PolicyAnswer answer;

    template <size_t N>
    static void name(char (&out)[N], std::string_view text) {
        std::memset(out, 0, N);
        std::memcpy(out, text.data(), std::min(text.size(), N - 1));
    }
    int32_t model_matches(std::string_view pattern, std::string_view text) {
        for (auto& model : tables->models().subspan(0, 2)) model.extent_count = 1;
        name(tables->models()[0].name, text);
        name(tables->models()[1].name, pattern);
        return object->run(Hook::model_open, {}, answer).verdict;
    }
    int32_t tier_matches(std::string_view pattern, std::string_view text) {
        for (auto& tier : tables->tiers().subspan(1, 2)) tier.capacity_bytes = 1;
        name(tables->tiers()[1].name, text);
        name(tables->tiers()[2].name, pattern);
        return object->run(Hook::tier_change, {}, answer).verdict;
    }
};

struct PatternRow {
    std::string_view pattern, text;
    bool matches;
};
const std::string kLongest(TIERD_NAME_BYTES - 1, 'a');
const PatternRow kPatterns[] = {
    {"", "", true},
    {"", "a", false},
    {"a", "", false},
    {"*", "", true},
    {"*", "abc", true},
    {"**", "abc", true},
    {"?", "", false},
    {"?", "a", true},
    {"?", "ab", false},
    {"abc", "abc", true},
    {"abc", "abd", false},
    {"abc", "ab", false},
    {"ab", "abc", false},
    {"a*", "abc", true},
    {"*c", "abc", true},
    {"*b", "abc", false},
    {"a*c", "abbbc", true},
    {"a*c", "abbbd", false},
    {"*b*", "abc", true},
    {"a?c", "abc", true},
    {"a?c", "ac", false},
    {"*aab", "aaab", true},
    {"*a?b*", "xaabz", true},
    {"a*b*c", "axbxbxc", true},
    {"mix*gguf", "mixtral.gguf", true},
    {"*.gguf", "mixtral.gguf.part", false},
};

}  // namespace

BOOST_GLOBAL_FIXTURE(NeedsBpf);
BOOST_FIXTURE_TEST_SUITE(header, Header)

BOOST_AUTO_TEST_CASE(a_pattern_matches_names_of_models_and_of_tiers_alike) {
    for (const PatternRow& row : kPatterns) {
        BOOST_TEST(model_matches(row.pattern, row.text) == row.matches, row.pattern << " " << row.text);
        if (row.pattern.size() < TIERD_TIER_NAME_BYTES && row.text.size() < TIERD_TIER_NAME_BYTES)
            BOOST_TEST(tier_matches(row.pattern, row.text) == row.matches, row.pattern << " " << row.text);
    }
}

BOOST_AUTO_TEST_CASE(a_pattern_matches_names_as_long_as_names_get) {
    BOOST_TEST(model_matches(kLongest, kLongest) == 1);
    BOOST_TEST(model_matches("*", kLongest) == 1);
    BOOST_TEST(model_matches("a*", kLongest) == 1);
    BOOST_TEST(model_matches("*b", kLongest) == 0);
    BOOST_TEST(model_matches(std::string(31, 'a') + "*" + std::string(31, 'a'), kLongest) == 1);
    BOOST_TEST(model_matches("*a*a*a*a*a*a*a*b", kLongest) == 0);
}

// Such names are never written by tierd; what matters is that reading them stays within the name.
BOOST_AUTO_TEST_CASE(names_without_an_end_do_no_harm) {
    (void)model_matches("*", "");
    std::memset(tables->models()[0].name, 'x', TIERD_NAME_BYTES);
    std::memset(tables->models()[1].name, '*', TIERD_NAME_BYTES);
    BOOST_TEST(object->run(Hook::model_open, {}, answer).failure == 0);
}

BOOST_AUTO_TEST_CASE(walks_meet_each_extent_once_and_may_be_left_at_any_place) {
    tables->models()[0] = {.first_extent = 10, .extent_count = 20};
    for (uint32_t i = 0; i < 40; i++) {
        tierd_extent& row = tables->extents()[i];
        row.layer = i % 10;
        row.expert = i < 20 ? 7 : 8;
        row.tier = i % 2 == 0 ? 2 : 1;
        row.state = i < 25 ? TIERD_EXTENT_RESIDENT : TIERD_EXTENT_ABSENT;
    }
    tables->tiers()[1] = {.capacity_bytes = 1000, .used_bytes = 250};
    BOOST_TEST(object->run(Hook::epoch, {}, answer).verdict == 0);
    auto ctxs = object->ctxs();
    BOOST_TEST(ctxs[0].user[0] == 2u);                         // 13 and 23
    BOOST_TEST(ctxs[1].user[0] == 1u);                         // 13
    BOOST_TEST(ctxs[2].user[0] == 8u);                         // even ones from 10 to 24
    BOOST_TEST(ctxs[0].user[1] == 13u);                        // returned from inside
    BOOST_TEST(ctxs[1].user[1] == static_cast<uint32_t>(-1));  // walked to the end
    BOOST_TEST(ctxs[3].user[0] == 3 * (2u + 3u + 5u));         // an empty range, continue, break, nested
    BOOST_TEST(ctxs[2].user[1] == 250u);
    BOOST_TEST(ctxs[3].user[1] == 1000u);  // a tier that is not there is full
}

BOOST_AUTO_TEST_CASE(lines_of_the_log_are_cut_and_those_beyond_the_most_are_dropped) {
    BOOST_TEST(object->run(Hook::fault, {.extent = 0}, answer).verdict == 0);
    BOOST_TEST_REQUIRE(answer.log.size() == size_t{TIERD_MAX_LOG});
    BOOST_TEST(answer.log[0] == "line 0");
    BOOST_TEST(answer.log[15] == "line 15");
    BOOST_TEST(object->run(Hook::fault, {.extent = 1}, answer).verdict == 0);
    BOOST_TEST_REQUIRE(answer.log.size() == 4u);
    BOOST_TEST(answer.log[0] == "no arguments");
    BOOST_TEST(answer.log[1] == "-1 of 2, 10000000000, text");
    BOOST_TEST(answer.log[2] == "knob");
    BOOST_TEST(answer.log[3].size() == size_t{TIERD_LOG_BYTES - 1});
}

BOOST_AUTO_TEST_SUITE_END()
