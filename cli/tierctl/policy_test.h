// policy_test.h - `tierctl policy test`: tests a policy on a trace, beside LRU and the optimum (Belady). Needs no
// tierd.
//
// Owns:      nothing between calls.
// Callers:   tierctl's only thread. Takes some seconds: one run per policy and capacity.
// Fails:     with a Failure; needs the right to load BPF unless only built-in policies are tested.
#pragma once

#include <string>
#include <vector>

#include "cli/tierctl/policy_commands.h"

namespace tierd {

struct PolicyTest {
    std::string trace;
    std::vector<std::string> policies;  // as `tierctl policy check` takes them, or builtin:NAME
    std::vector<std::string> sets;      // "knob=value", for each policy that is an object
    std::string tiers;                  // a TOML file; empty: DRAM for half of the trace's weights
    std::string svg;                    // where to write the chart; empty: nowhere
    bool curve = true;                  // also at other capacities
    bool as_json = false;
};

Output run_policy_test(const PolicyTest& test);

// Adds `test` to the verbs of `policy`.
void add_policy_test(CLI::App& policy, Chosen& chosen);

}  // namespace tierd
