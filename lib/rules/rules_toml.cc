#include "lib/rules/rules_toml.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <toml++/toml.h>
#include <algorithm>

#include "lib/rules/rule_cover.h"
#include "lib/rules/rule_values.h"

namespace tierd {
namespace {

RuleScalar scalar_of(const toml::node& node) {
    if (auto flag = node.value_exact<bool>()) return *flag;
    if (auto number = node.value_exact<int64_t>()) return *number;
    if (auto fraction = node.value_exact<double>()) return *fraction;
    if (auto text = node.value_exact<std::string>()) return *text;
    return {};
}

RuleValue value_of(const toml::node& node) {
    RuleValue value;
    const toml::array* list = node.as_array();
    if (list == nullptr) return {{scalar_of(node)}, false};
    value.is_list = true;
    for (const toml::node& item : *list) value.items.push_back(scalar_of(item));
    return value;
}

// The place of a rule and of each of its settings.
struct Place {
    std::string name;
    toml::source_position rule;
    toml::source_position settings[NR_TIERD_RULE_SETTINGS];
};

class Compiler {
  public:
    explicit Compiler(const RuleLookups& lookups) : lookups_(lookups) {}

    CompiledRules run(std::string_view text) {
        out_.table = default_rules();
        try {
            take_file(toml::parse(text));
        } catch (const toml::parse_error& error) {
            note(true, error.source().begin, std::string(error.description()));
        }
        warn_of_the_shadowed();
        std::ranges::stable_sort(out_.notes, {}, &RuleNote::line);
        return std::move(out_);
    }

  private:
    void note(bool is_error, const toml::source_position& at, std::string text) {
        out_.notes.push_back({is_error, at.line, at.column, std::move(text)});
    }
    void unknown(const toml::key& key, std::string_view what, std::span<const std::string_view> known) {
        std::string_view nearest = nearest_name(key.str(), known);
        note(true, key.source().begin,
             fmt::format("unknown {} {}; {}", what, key.str(),
                         nearest.empty() ? fmt::format("there are {}", fmt::join(known, ", "))
                                         : fmt::format("did you mean {}?", nearest)));
    }

    void take_file(const toml::table& file) {
        static constexpr std::string_view kSections[] = {"rule", "default"};
        for (auto&& [key, node] : file) {
            if (key.str() == "rule")
                take_rules(key, node);
            else if (key.str() == "default")
                take_default(key, node);
            else
                unknown(key, "section", kSections);
        }
    }

    void take_rules(const toml::key& key, const toml::node& node) {
        const toml::array* rules = node.as_array();
        if (rules == nullptr ||
            std::ranges::any_of(*rules, [](const toml::node& item) { return !item.is_table(); }))
            return note(true, key.source().begin, "a rule begins with [[rule]] in double brackets");
        for (const toml::node& item : *rules) {
            if (out_.rules == TIERD_DEFAULT_RULE)
                return note(
                    true, item.source().begin,
                    fmt::format("there are more than {} rules; let some match more", TIERD_DEFAULT_RULE));
            take_rule(*item.as_table());
        }
    }

    void take_rule(const toml::table& keys) {
        tierd_rule& rule = out_.table[out_.rules++];
        Place& place = places_.emplace_back();
        rule = blank_rule();
        place.rule = keys.source().begin;
        place.name = fmt::format("the rule of line {}", place.rule.line);
        for (auto&& [key, node] : keys) {
            const RuleKey* known = find_rule_key(key.str());
            if (key.str() == "name")
                take_name(node, place);
            else if (known == nullptr)
                unknown(key, "key", names(true, true));
            else
                take_key(*known, node, rule, place);
        }
        if (rule.sets == 0)
            note(true, place.rule,
                 fmt::format("the rule decides nothing: add one of {}", fmt::join(names(false, true), ", ")));
        warn_of_the_impossible(rule, place);
    }

    void take_name(const toml::node& node, Place& place) {
        auto name = node.value_exact<std::string>();
        if (name)
            place.name = fmt::format("\"{}\" (line {})", *name, place.rule.line);
        else
            note(true, node.source().begin, "name: write a text in quotes");
    }

    void take_key(const RuleKey& key, const toml::node& node, tierd_rule& rule, Place& place) {
        ValueProblem problem = key.set(rule, value_of(node), lookups_);
        if (problem)
            note(!problem.is_warning, node.source().begin, fmt::format("{}: {}", key.name, problem.text));
        if (!key.is_setting) return;
        for (int setting = 0; setting < NR_TIERD_RULE_SETTINGS; setting++) {
            if (setting_key(setting) != key.name) continue;
            rule.sets |= static_cast<uint16_t>(1u << setting);
            place.settings[setting] = node.source().begin;
        }
    }

    // What holds where no rule decides.
    void take_default(const toml::key& section, const toml::node& node) {
        const toml::table* keys = node.as_table();
        if (keys == nullptr)
            return note(true, section.source().begin, "write [default] and its keys beneath");
        tierd_rule& rule = out_.table[TIERD_DEFAULT_RULE];
        default_place_.name = "[default]";
        for (auto&& [key, value] : *keys) {
            const RuleKey* known = find_rule_key(key.str());
            if (known == nullptr)
                unknown(key, "key", names(false, true));
            else if (!known->is_setting)
                note(true, key.source().begin,
                     fmt::format("{}: [default] is for all extents; match in a [[rule]]", key.str()));
            else if (key.str() == "cap")
                note(true, key.source().begin, "cap: the cap of everything is the budget: tierctl budget");
            else
                take_key(*known, value, rule, default_place_);
        }
        default_sets_ = std::exchange(rule.sets, 0);
    }

    static std::vector<std::string_view> names(bool matching, bool setting) {
        std::vector<std::string_view> names;
        if (matching) names.push_back("name");
        for (const RuleKey& key : rule_keys())
            if (key.is_setting ? setting : matching) names.push_back(key.name);
        return names;
    }

    void warn_of_the_impossible(const tierd_rule& rule, const Place& place) {
        bool names_experts = rule.experts[0].last != UINT16_MAX;
        if (names_experts && (rule.roles & 1u << TIERD_ROLE_EXPERT) == 0)
            note(false, place.rule,
                 "the rule can never match: only extents of role expert belong to an expert");
        if (rule.heat_least > rule.heat_most)
            note(false, place.rule, "the rule can never match: heat_at_least is above heat_at_most");
    }

    void warn_of_the_shadowed() {
        for (uint32_t i = 0; i < out_.rules; i++) warn_if_shadowed(out_.table[i], places_[i], i);
        tierd_rule rest = blank_rule();
        rest.sets = default_sets_;
        warn_if_shadowed(rest, default_place_, out_.rules);
    }

    void warn_if_shadowed(const tierd_rule& rule, const Place& place, uint32_t earlier) {
        for (int setting = 0; setting < NR_TIERD_RULE_SETTINGS; setting++) {
            if ((rule.sets >> setting & 1) == 0) continue;
            for (uint32_t i = 0; i < earlier; i++) {
                if ((out_.table[i].sets >> setting & 1) == 0 || !covers(out_.table[i], rule)) continue;
                note(false, place.settings[setting],
                     fmt::format(
                         "{} never decides here: {} is above it and matches everything that it matches",
                         setting_key(setting), places_[i].name));
                break;
            }
        }
    }

    const RuleLookups& lookups_;
    CompiledRules out_;
    std::vector<Place> places_;
    Place default_place_;
    uint16_t default_sets_ = 0;
};

Result<uint32_t> find_user(const std::string& name) {
    std::vector<char> buffer(16384);
    passwd entry{};
    passwd* found = nullptr;
    int failed = ::getpwnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found);
    if (found == nullptr)
        return std::unexpected(Error{Code::not_found, failed, "find the user", name,
                                     "getent passwd lists this machine's users"});
    return entry.pw_uid;
}

// The id of a control group is the inode number of its folder.
Result<uint64_t> find_cgroup(const std::string& path) {
    struct stat info{};
    std::string folder = "/sys/fs/cgroup" + path;
    if (::stat(folder.c_str(), &info) != 0)
        return std::unexpected(
            Error{Code::not_found, errno, "find the control group", folder,
                  "it must be there when the rules are built: start what runs in it first"});
    return info.st_ino;
}

}  // namespace

bool CompiledRules::usable() const {
    return std::ranges::none_of(notes, &RuleNote::is_error);
}

RuleLookups machine_lookups() {
    return {find_user, find_cgroup};
}

CompiledRules compile_rules(std::string_view text, const RuleLookups& lookups) {
    return Compiler(lookups).run(text);
}

std::string notes_text(const std::vector<RuleNote>& notes, std::string_view source) {
    std::string text;
    for (const RuleNote& note : notes)
        text += fmt::format("{}:{}:{}: {}: {}\n", source, note.line, note.column,
                            note.is_error ? "error" : "warning", note.text);
    return text;
}

RuleTable default_rules() {
    RuleTable table{};
    tierd_rule& rest = table[TIERD_DEFAULT_RULE];
    rest.cap_bytes = UINT64_MAX;
    rest.read_ahead = TIERD_DEFAULT_READ_AHEAD;
    rest.evict = TIERD_EVICT_NORMAL;
    return table;
}

}  // namespace tierd
