// policy_commands.h - the subcommands `tierctl policy ...`.
//
// Callers:   main.cc, before parsing; what a subcommand was given lives in the chosen one.
#pragma once

#include <CLI/CLI.hpp>
#include <expected>
#include <functional>
#include <string>

#include "cli/tierctl/client.h"

namespace tierd {

// Runs what was chosen on the command line; empty before one of these was.
using Chosen = std::function<std::expected<std::string, Failure>(const Client&)>;

// Adds them; a chosen one is put into `chosen`.
void add_policy_commands(CLI::App& app, Chosen& chosen);

}  // namespace tierd
