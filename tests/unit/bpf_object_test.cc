// Policies as the kernel takes or refuses them: what may be loaded, what is said of the rest, and what a call brings back.
#define BOOST_TEST_MODULE bpf_object
#include "lib/policy/bpf_object.h"

#include <bpf/libbpf.h>
#include <elf.h>

#include <boost/test/unit_test.hpp>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <map>
#include <random>

#include "tests/fuzz/mutate.h"

using namespace tierd;

namespace {

constexpr uint32_t kRoom = 4096;

std::string build_dir() {
    return std::getenv("TIERD_BUILD_DIR") ? std::getenv("TIERD_BUILD_DIR") : "build";
}

struct NeedsBpf {
    NeedsBpf() {
        if (auto usable = bpf_usable(); !usable) {
            std::cout << "skipped: policies can't be loaded here: " << usable.error().text() << std::endl;
            std::_Exit(77);
        }
    }
};

struct Scene {
    std::shared_ptr<BpfTables> tables = BpfTables::make(kRoom).value();
    std::string log;

    static ObjectFile test_object(const std::string& name) {
        auto file = read_object(build_dir() + "/tests/policies/" + name + ".bpf.o");
        BOOST_REQUIRE_MESSAGE(file.has_value(), (file ? "" : file.error().text()));
        return *file;
    }
    Result<std::shared_ptr<BpfObject>> load(const ObjectFile& file, std::vector<Knob> knobs = {}) {
        return BpfObject::load(file, knobs, tables, &log);
    }
    std::shared_ptr<BpfObject> loaded(const std::string& name, std::vector<Knob> knobs = {}) {
        auto object = load(test_object(name), knobs);
        BOOST_REQUIRE_MESSAGE(object.has_value(), (object ? "" : object.error().text() + "\n" + log));
        return *object;
    }
    // The object must be refused, and what is said of it must hold these words.
    void refuses(const std::string& name, const std::vector<std::string>& words) {
        auto object = load(test_object(name));
        BOOST_TEST_REQUIRE(!object.has_value(), name);
        std::string said = object.error().text();
        for (const std::string& word : words)
            BOOST_TEST(said.find(word) != said.npos, name + ": \"" + said + "\" lacks \"" + word + "\"");
    }
};

// Where a section stands in a sound object.
struct Section {
    size_t at = 0;
    size_t bytes = 0;
};
Section section_of(const std::string& object, const std::string& name) {
    auto at = [&](uint64_t offset, auto value) {
        std::memcpy(&value, object.data() + offset, sizeof value);
        return value;
    };
    auto head = at(0, Elf64_Ehdr{});
    auto row = [&](size_t i) { return at(head.e_shoff + i * sizeof(Elf64_Shdr), Elf64_Shdr{}); };
    const uint64_t names = row(head.e_shstrndx).sh_offset;
    for (size_t i = 0; i < head.e_shnum; i++)
        if (name == object.data() + names + row(i).sh_name) return {row(i).sh_offset, row(i).sh_size};
    BOOST_FAIL("no section " + name);
    return {};
}

// Damages the section's bytes; nothing moves.
void damage(std::string& object, Section section, std::mt19937_64& dice) {
    std::string part = object.substr(section.at, section.bytes);
    test::mutate(part, dice);
    part.resize(section.bytes);
    object.replace(section.at, section.bytes, part);
}

}  // namespace

BOOST_GLOBAL_FIXTURE(NeedsBpf);
BOOST_FIXTURE_TEST_SUITE(objects, Scene)

BOOST_AUTO_TEST_CASE(the_shipped_example_loads_and_marks_a_miss_by_its_time) {
    auto file = read_object(build_dir() + "/policies/fifo.bpf.o");
    BOOST_REQUIRE(file.has_value());
    BOOST_TEST(file->name == "fifo");
    auto object = load(*file);
    BOOST_REQUIRE_MESSAGE(object.has_value(), (object ? "" : object.error().text()));
    PolicyAnswer answer;
    CallOutcome outcome =
        (*object)->run(Hook::fault, {.now_ns = 77, .extent = 5, .touch = TIERD_TOUCH_MISSING}, answer);
    BOOST_TEST(outcome.failure == 0);
    BOOST_TEST((*object)->marks()[5].worth == 77u);
    BOOST_TEST(outcome.cpu_ns > 0u);
    BOOST_TEST(!(*object)->has(Hook::epoch));
}

BOOST_AUTO_TEST_CASE(every_hook_sees_the_tables_and_answers_in_order_of_priority) {
    auto object = loaded("all_hooks");
    tables->models()[2] = {.first_extent = 10, .extent_count = 20};
    tables->extents()[5].next = 6;
    tables->tiers()[1] = {.capacity_bytes = 1000, .used_bytes = 250};
    PolicyAnswer answer;
    BOOST_TEST(object->run(Hook::init, {}, answer).verdict == 0);
    BOOST_TEST_REQUIRE(answer.log.size() == 1u);
    BOOST_TEST(answer.log[0] == "hello, factor 3");
    BOOST_TEST(object->run(Hook::model_open, {.model = 2}, answer).verdict == 0);
    BOOST_TEST(object->marks()[9].worth == 0u);
    BOOST_TEST(object->marks()[10].worth == TIERD_HOLD);
    BOOST_TEST(object->marks()[29].worth == TIERD_HOLD);
    BOOST_TEST(object->marks()[30].worth == 0u);
    BOOST_TEST(object->run(Hook::fault, {.now_ns = 100, .extent = 5}, answer).verdict == 0);
    BOOST_TEST(object->marks()[5].worth == 295u);
    BOOST_TEST_REQUIRE(answer.decisions.size() == 2u);
    BOOST_TEST(answer.decisions[0].kind == TIERD_MOVE);
    BOOST_TEST(answer.decisions[1].extent == 6u);
    BOOST_TEST(object->run(Hook::admit, {.to_tier = 2}, answer).verdict == TIERD_REFUSE);
    BOOST_TEST(object->run(Hook::tier_change, {.to_tier = 1}, answer).verdict == 250);
    BOOST_TEST(answer.decisions.empty());
    BOOST_TEST(object->run(Hook::fault, {.extent = kRoom}, answer).verdict == 1);
}

BOOST_AUTO_TEST_CASE(what_an_answer_has_no_room_for_is_counted) {
    auto object = loaded("all_hooks");
    PolicyAnswer answer;
    object->run(Hook::epoch, {}, answer);
    BOOST_TEST(answer.decisions.size() == TIERD_MAX_DECISIONS);
    BOOST_TEST(answer.dropped == 10u);
}

BOOST_AUTO_TEST_CASE(knobs_are_set_before_loading_and_shown) {
    auto object =
        loaded("all_hooks", {{"factor", "0x10"}, {"offset", "-7"}, {"loud", "1"}, {"greeting", "bye"}});
    PolicyAnswer answer;
    object->run(Hook::init, {}, answer);
    BOOST_TEST_REQUIRE(answer.log.size() == 1u);
    BOOST_TEST(answer.log[0] == "bye, factor 16");
    object->run(Hook::fault, {.now_ns = 100, .extent = 5}, answer);
    BOOST_TEST(object->marks()[5].worth == 1593u);
    BOOST_TEST(object->marks()[5].word[0] == 1u);
    std::map<std::string, std::string> shown;
    for (const Knob& knob : object->knobs()) shown[knob.name] = knob.value;
    BOOST_TEST(shown.size() == 4u);
    BOOST_TEST(shown["factor"] == "16");
    BOOST_TEST(shown["offset"] == "-7");
    BOOST_TEST(shown["greeting"] == "bye");
}

BOOST_AUTO_TEST_CASE(impossible_knobs_are_refused_with_what_is_possible) {
    ObjectFile file = test_object("all_hooks");
    for (const Knob& knob : std::vector<Knob>{{"factr", "1"},
                                              {"factor", "-1"},
                                              {"factor", "4294967296"},
                                              {"factor", "1x"},
                                              {"factor", ""},
                                              {"factor", " 1"},
                                              {"offset", "32768"},
                                              {"offset", "-32769"},
                                              {"greeting", "sixteen letters!"}}) {
        auto object = load(file, {knob});
        BOOST_TEST(!object.has_value(), knob.name + "=" + knob.value);
        if (!object) BOOST_TEST(object.error().hint != "");
    }
}

BOOST_AUTO_TEST_CASE(what_tierd_shows_is_not_a_policys_to_write) {
    for (const char* name : {"write_row", "write_model", "write_tier", "write_gpu", "write_lease"})
        refuses(name, {std::string(name) + ".bpf.c:", "write into map forbidden", "are tierd's"});
    BOOST_TEST(log.find("processed") != log.npos);  // the verifier's whole words
}

BOOST_AUTO_TEST_CASE(the_verifiers_complaint_names_the_line_and_what_to_do) {
    refuses("no_null_check", {"no_null_check.bpf.c:8", "map_value_or_null", "NULL"});
    refuses("endless", {"endless.bpf.c:6", "tierd_for"});
}

BOOST_AUTO_TEST_CASE(what_reaches_beyond_a_policys_maps_is_refused_before_the_kernel_sees_it) {
    refuses("helper", {"helper number 166", "bpf_ktime_get_ns"});
    refuses("kernel_function", {"bpf_rcu_read_lock"});
    refuses("ring_map", {"mine", "hash"});
    refuses("pinned_map", {"mine", "pinned"});
    refuses("huge_map", {"64.0 MiB"});
}

BOOST_AUTO_TEST_CASE(objects_that_are_not_of_this_abi_are_refused_with_the_reason) {
    refuses("other_abi", {"999", std::to_string(TIERD_ABI_VERSION)});
    refuses("no_abi", {"ABI", "TIERD_POLICY"});
    refuses("no_licence", {"licence", "TIERD_POLICY"});
    refuses("unknown_hook", {"tierd/epoche"});
    refuses("no_hook", {"TIERD_HOOK"});
    refuses("small_map", {"tierd_answers", std::to_string(sizeof(tierd_answer))});
}

BOOST_AUTO_TEST_CASE(a_truncated_object_is_refused_wherever_it_ends) {
    ObjectFile whole = test_object("all_hooks");
    for (size_t bytes = 0; bytes < whole.bytes.size(); bytes += 97) {
        auto object = load({"cut", whole.bytes.substr(0, bytes)});
        BOOST_TEST(!object.has_value(), bytes);
        if (!object) BOOST_TEST((object.error().code == Code::bad_input), object.error().text());
    }
}

BOOST_AUTO_TEST_CASE(an_object_with_flipped_bytes_never_harms_the_inspection) {
    ObjectFile whole = test_object("all_hooks");
    uint32_t random = 1;
    for (int round = 0; round < 3000; round++) {
        ObjectFile broken{"broken", whole.bytes};
        for (int flips = 0; flips < 3; flips++) {
            random = random * 1664525 + 1013904223;
            broken.bytes[random % broken.bytes.size()] ^= static_cast<char>(1 << (random >> 29));
        }
        (void)inspect_object(broken.bytes, broken.name);
    }
}

// libbpf trusts what a compiler wrote; tierd must not bring it anything else. Where both find nothing wrong, the kernel has
// the last word.
BOOST_AUTO_TEST_CASE(an_object_with_damaged_type_information_is_refused_or_harmless) {
    for (const char* name : {"all_hooks", "helper"}) {
        ObjectFile whole = test_object(name);
        std::mt19937_64 dice(7);
        uint64_t refused = 0;
        for (int round = 0; round < 3000; round++) {
            ObjectFile broken{"broken", whole.bytes};
            Section part = section_of(whole.bytes, dice() % 3 == 0 ? ".BTF.ext" : ".BTF");
            for (uint64_t n = 1 + dice() % 3; n > 0; n--) damage(broken.bytes, part, dice);
            // Every hundredth that looks right goes to the kernel too.
            if (!inspect_object(broken.bytes, broken.name))
                refused++;
            else if (round % 100 == 0)
                (void)load(broken);
            else
                bpf_object__close(bpf_object__open_mem(broken.bytes.data(), broken.bytes.size(), nullptr));
        }
        BOOST_TEST(refused > 300u, name);
    }
}

BOOST_AUTO_TEST_CASE(an_object_without_type_information_is_told_what_to_do) {
    ObjectFile broken = test_object("all_hooks");
    Section part = section_of(broken.bytes, ".BTF");
    std::fill_n(broken.bytes.begin() + static_cast<ptrdiff_t>(part.at), part.bytes, '\0');
    auto object = load(broken);
    BOOST_REQUIRE(!object.has_value());
    BOOST_TEST((object.error().code == Code::bad_input));
    BOOST_TEST(object.error().text().find(".BTF") != std::string::npos, object.error().text());
}

BOOST_AUTO_TEST_SUITE_END()
