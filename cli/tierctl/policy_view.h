// policy_view.h - prints what tierd and the verifier report of policies.
//
// Callers:   tierctl's only thread; pure. Output is escaped here.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "lib/policy/bpf_object.h"

namespace tierd {

std::string view_policy(const nlohmann::json& status);  // of GET /v1/policy
std::string hook_names(const ObjectSummary& summary);   // "fault, epoch"
std::string knob_text(const std::vector<Knob>& knobs);  // "depth=4 window=16"; "-" without

}  // namespace tierd
