// The configuration: defaults, ranges, and errors that say where and what to write instead.
#define BOOST_TEST_MODULE config
#include <boost/test/unit_test.hpp>
#include <fstream>
#include <sstream>

#include "daemon/config.h"
#include "tests/unit/fake_control.h"

using namespace tierd;

namespace {

std::string refusal(const std::string& text) {
    auto read = parse_config(text, "test.toml");
    BOOST_REQUIRE_MESSAGE(!read.has_value(), "was accepted: " << text);
    BOOST_TEST((read.error().code == Code::bad_config));
    BOOST_TEST(!read.error().hint.empty());
    return read.error().text();
}

bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

const char* const kShipped = TIERD_SOURCE_DIR "/packaging/tierd.toml";

}  // namespace

BOOST_AUTO_TEST_CASE(the_shipped_file_says_exactly_the_built_in_defaults) {
    auto shipped = load_config(kShipped);
    BOOST_REQUIRE_MESSAGE(shipped.has_value(), (shipped ? "" : shipped.error().text()));
    BOOST_TEST((*shipped == Config{}));
}

BOOST_AUTO_TEST_CASE(the_shipped_file_writes_out_every_key) {
    // A key that is missing in the file would keep its default unnoticed: the error for an unknown key lists
    // all of a section.
    std::ifstream file(kShipped);
    std::stringstream text;
    text << file.rdbuf();
    int keys = 0;
    for (const char* section : {"session", "control", "memory", "io", "policy", "state", "log"}) {
        std::string shipped = text.str();
        size_t begin = shipped.find("[" + std::string(section) + "]\n");
        BOOST_REQUIRE_MESSAGE(begin != std::string::npos, section);
        shipped = shipped.substr(begin, shipped.find("\n\n[", begin) - begin);
        std::string error = refusal("[" + std::string(section) + "]\nnothing_of_that_name = 1");
        std::string list = error.substr(error.find(" are ") + 5);
        std::replace(list.begin(), list.end(), ',', ' ');
        std::istringstream names(list);
        for (std::string name; names >> name; keys++)
            BOOST_TEST(contains(shipped, "\n" + name + " = "), section << "." << name);
    }
    BOOST_TEST(keys == 20);
}

BOOST_AUTO_TEST_CASE(an_empty_file_gives_the_defaults) {
    BOOST_TEST((parse_config("", "x").value() == Config{}));
}

BOOST_AUTO_TEST_CASE(every_key_is_read) {
    auto read = parse_config(R"(
        [session]
        socket = "/a"
        group = "models"
        deadline_ms = 50
        max_sessions = 65536
        user_metadata = "1MiB"
        user_mode_faults = true
        [control]
        socket = "/b"
        group = "admins"
        [memory]
        budget = "8GiB"
        extent = "64KiB"
        huge_pages = "hugetlb"
        [io]
        depth = 256
        direct = false
        [policy]
        name = "lru"
        epoch_ms = 10
        read_ahead = false
        [state]
        directory = "/c"
        [log]
        level = "debug"
    )",
                             "test.toml");
    BOOST_REQUIRE_MESSAGE(read.has_value(), (read ? "" : read.error().text()));
    Config want;
    want.session = {"/a", "models", 50, 65536, kMiB, true};
    want.control = {"/b", "admins"};
    want.memory = {{75, 8 * kGiB}, 64 * kKiB, HugePages::hugetlb};
    want.io = {256, false};
    want.policy = {"lru", 10, false};
    want.state = {"/c"};
    want.log = {"debug"};
    BOOST_TEST((*read == want));
}

BOOST_AUTO_TEST_CASE(a_wrong_value_is_refused_with_its_place_and_what_to_write) {
    std::string error = refusal("[memory]\n  extent = \"3MiB\"\n");
    BOOST_TEST(contains(error, "test.toml line 2, column 12: memory.extent"), error);
    BOOST_TEST(contains(error, "power of two from \"64KiB\" to \"2MiB\""), error);
}

BOOST_AUTO_TEST_CASE(values_out_of_range_or_of_the_wrong_kind_are_refused) {
    for (const char* text : {
             "[session]\nsocket = ''",
             "[session]\nsocket = 7",
             "[session]\ndeadline_ms = 49",
             "[session]\ndeadline_ms = 60001",
             "[session]\ndeadline_ms = 500.0",
             "[session]\ndeadline_ms = '500'",
             "[session]\nmax_sessions = 0",
             "[session]\nuser_metadata = \"64KiB\"",
             "[session]\nuser_metadata = 1048576",
             "[session]\nmax_sessions = -1",
             "[session]\nmax_sessions = 4294967297",
             "[session]\nuser_mode_faults = 1",
             "[session]\ngroup = \"a\\u0000b\"",
             "[memory]\nbudget = '0%'",
             "[memory]\nbudget = '96%'",
             "[memory]\nbudget = '-5%'",
             "[memory]\nbudget = '7x%'",
             "[memory]\nbudget = '%'",
             "[memory]\nbudget = '0'",
             "[memory]\nbudget = 'lots'",
             "[memory]\nbudget = 8",
             "[memory]\nextent = '32KiB'",
             "[memory]\nextent = '4MiB'",
             "[memory]\nhuge_pages = 'yes'",
             "[memory]\nhuge_pages = true",
             "[io]\ndepth = 0",
             "[io]\ndepth = 257",
             "[io]\ndirect = 'yes'",
             "[policy]\nname = 'guess'",
             "[policy]\nepoch_ms = 9",
             "[policy]\nread_ahead = 07:32:00",
             "[state]\ndirectory = 'relative'",
             "[state]\ndirectory = []",
             "[log]\nlevel = 'loud'",
         }) {
        std::string error = refusal(text);
        BOOST_TEST(contains(error, "line 2, column "), error);
    }
}

BOOST_AUTO_TEST_CASE(a_socket_path_longer_than_the_kernel_takes_is_refused) {
    auto with_length = [](size_t length) {
        return parse_config("[control]\nsocket = \"/" + std::string(length - 1, 'a') + "\"", "x");
    };
    BOOST_TEST(with_length(107).has_value());
    BOOST_TEST(!with_length(108).has_value());
}

BOOST_AUTO_TEST_CASE(an_unknown_key_is_an_error_that_lists_the_known_ones) {
    std::string error = refusal("[io]\ndepth = 4\n  dept = 5\n");
    BOOST_TEST(contains(error, "line 3, column 3: unknown key io.dept"), error);
    BOOST_TEST(contains(error, "depth, direct"), error);
}

BOOST_AUTO_TEST_CASE(an_unknown_section_is_an_error_that_lists_the_known_ones) {
    std::string error = refusal("\n[sesion]\n");
    BOOST_TEST(contains(error, "line 2, column 2: unknown section sesion"), error);
    BOOST_TEST(contains(error, "[session], [control], [memory]"), error);
    BOOST_TEST(contains(refusal("depth = 4"), "unknown section depth"));
    BOOST_TEST(contains(refusal("io = 4"), "write [io]"));
    refusal("[[io]]\ndepth = 4");
}

BOOST_AUTO_TEST_CASE(broken_toml_is_an_error_with_its_place) {
    std::string error = refusal("[io]\ndepth = \n");
    BOOST_TEST(contains(error, "test.toml line 2, column "), error);
    refusal("[io]\ndepth = 4\ndepth = 5\n");
    refusal("[io\n");
    refusal("\xff\xfe");
    refusal(std::string("[log]\nlevel = \"\0\"", 18));
}

BOOST_AUTO_TEST_CASE(a_file_that_is_missing_or_far_too_large_is_refused) {
    TempFolder folder;
    auto missing = load_config(folder.file("none.toml"));
    BOOST_REQUIRE(!missing.has_value());
    BOOST_TEST((missing.error().code == Code::not_found));
    std::ofstream(folder.file("large.toml")) << std::string(kMiB + 1, '#');
    auto large = load_config(folder.file("large.toml"));
    BOOST_REQUIRE(!large.has_value());
    BOOST_TEST((large.error().code == Code::bad_config));
}

BOOST_AUTO_TEST_CASE(the_command_line_overrides_the_file) {
    Config config = parse_config("[memory]\nbudget = \"8GiB\"", "x").value();
    for (auto [key, value] : {std::pair{"session.socket", "/s"},
                              {"control.socket", "/c"},
                              {"memory.budget", "50%"},
                              {"memory.extent", "1MiB"},
                              {"memory.huge_pages", "off"},
                              {"policy.name", "sweep"},
                              {"state.directory", "/d"},
                              {"log.level", "error"}}) {
        auto set = apply_override(config, key, value);
        BOOST_TEST(set.has_value(), key);
    }
    Config want;
    want.session.socket = "/s";
    want.control.socket = "/c";
    want.memory = {{50, 0}, kMiB, HugePages::off};
    want.policy.name = "sweep";
    want.state.directory = "/d";
    want.log.level = "error";
    BOOST_TEST((config == want));
}

BOOST_AUTO_TEST_CASE(a_wrong_override_says_what_to_write_and_changes_nothing) {
    Config config;
    auto wrong = apply_override(config, "memory.budget", "plenty");
    BOOST_REQUIRE(!wrong.has_value());
    BOOST_TEST(contains(wrong.error().text(), "set memory.budget to \"plenty\"; write a size"),
               wrong.error().text());
    BOOST_TEST(!apply_override(config, "memory.bugdet", "1GiB").has_value());
    BOOST_TEST(!apply_override(config, "memory", "1GiB").has_value());
    BOOST_TEST((config == Config{}));
}

BOOST_AUTO_TEST_CASE(a_budget_is_a_share_of_the_memory_unless_it_is_a_size) {
    BOOST_TEST(budget_bytes({75, 0}, 16 * kGiB) == 16 * kGiB / 100 * 75);
    BOOST_TEST(budget_bytes({75, 2 * kGiB}, 16 * kGiB) == 2 * kGiB);
    BOOST_TEST(usable_ram_bytes() > 64 * kMiB);
    BOOST_TEST(usable_ram_bytes() <= static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE));
}
