// policy_verbs.h - `tierctl policy` list, check, load, status, unload. A new verb is a row in policy_verbs.cc.
//
// Callers:   policy_commands.cc, before parsing.
#pragma once

#include "cli/tierctl/policy_commands.h"

namespace tierd {

void add_policy_verbs(CLI::App& policy, Chosen& chosen);

}  // namespace tierd
