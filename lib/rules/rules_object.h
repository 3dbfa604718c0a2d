// rules_object.h - writes rules into the policy `rules`; the result is an ordinary policy object.
//
// Owns:      nothing; bytes in, bytes out.
// Invariant: only the bytes of the array of rules change.
// Callers:   any thread.
// Fails:     bad_input: the object is not the policy `rules` of this version.
#pragma once

#include <string>

#include "lib/base/result.h"
#include "lib/rules/rules_toml.h"

namespace tierd {

Result<std::string> put_rules(std::string object, const RuleTable& table);

}  // namespace tierd
