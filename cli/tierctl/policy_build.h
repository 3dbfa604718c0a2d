// policy_build.h - `tierctl policy build`: makes a policy object from rules in TOML, or from a policy in C. Needs no
// tierd.
//
// Owns:      nothing between calls.
// Callers:   tierctl's only thread. Runs clang for C.
// Fails:     with a Failure, after the errors of the source were printed on stderr, by file, line and column.
#pragma once

#include <expected>
#include <string>

#include "cli/tierctl/client.h"

namespace tierd {

struct PolicyBuild {
    std::string source;  // NAME.toml or NAME.bpf.c
    std::string object;  // where to write; empty: NAME.bpf.o beside the source
};

// What is to be printed.
std::expected<std::string, Failure> run_policy_build(const PolicyBuild& build);

}  // namespace tierd
