#include "cli/tierctl/policy_commands.h"

#include <memory>

#include "cli/tierctl/policy_build.h"
#include "cli/tierctl/policy_test.h"
#include "cli/tierctl/policy_verbs.h"

namespace tierd {
namespace {

void add_build(CLI::App& policy, Chosen& chosen) {
    auto build = std::make_shared<PolicyBuild>();
    CLI::App* sub =
        policy.add_subcommand("build", "Make an object of rules in TOML, or of C; needs no tierd");
    sub->add_option("SOURCE", build->source, "NAME.toml or NAME.bpf.c (docs/writing-a-policy.md)")
        ->required();
    sub->add_option("-o,--output", build->object, "The object; NAME.bpf.o beside the source");
    sub->callback([&chosen, build] { chosen = [build](const Client&) { return run_policy_build(*build); }; });
}

}  // namespace

void add_policy_commands(CLI::App& app, Chosen& chosen) {
    CLI::App* policy = app.add_subcommand("policy", "Placement policies: write them, try them, load them");
    policy->require_subcommand(1);
    add_build(*policy, chosen);
    add_policy_test(*policy, chosen);
    add_policy_verbs(*policy, chosen);
}

}  // namespace tierd
