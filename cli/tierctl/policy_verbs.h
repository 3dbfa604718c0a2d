// policy_verbs.h - `tierctl policy` list, check, load, status, unload. A new verb is a row in policy_verbs.cc.
//
// Callers:   policy_commands.cc, before parsing.
#pragma once

#include "cli/tierctl/policy_commands.h"
#include "lib/policy/bpf_object.h"

namespace tierd {

void add_policy_verbs(CLI::App& policy, Chosen& chosen);

// "fifo" as it is installed or was built, or the path of an object. Errors: not_found, and as read_object().
Result<ObjectFile> find_object(const std::string& policy);
// "knob=value" each.
std::expected<std::vector<Knob>, Failure> read_sets(const std::vector<std::string>& sets);

}  // namespace tierd
