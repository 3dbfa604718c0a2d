// doctor.h - checks this machine for what tierd needs, and lists what to change.
//
// Owns:      nothing; every check leaves the machine as it was.
// Callers:   tierctl's only thread. Asks the kernel directly, so it works without a running tierd; the result is
//            valid for the user who runs it.
// Fails:     never: a check that can't run is a finding.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tierd {

enum class Health : uint8_t {
    good,
    lesser,  // tierd works, without something; the remedy says what would help
    bad,     // engines would not be served
};

struct Finding {
    std::string what;
    Health health = Health::good;
    std::string found;
    std::string remedy;  // empty where nothing needs to change
};

const char* health_name(Health health);  // "good", "lesser", "bad"

// A line each, and beneath it what would help.
std::string view_findings(const std::vector<Finding>& findings);

// `weights`: a file or folder whose disk is to be judged; empty: none.
std::vector<Finding> examine_machine(const std::string& weights);

}  // namespace tierd
