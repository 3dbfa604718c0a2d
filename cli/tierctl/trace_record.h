// trace_record.h - `tierctl trace record`: what happens to extents in a running tierd, into a file.
//
// Callers:   main.cc, before parsing.
// Fails:     as `chosen` does; what was written until then is a truncated, readable trace.
#pragma once

#include "cli/tierctl/policy_commands.h"

namespace tierd {

void add_trace_commands(CLI::App& app, Chosen& chosen);

}  // namespace tierd
