// policy_request.h - for tests that load eBPF policies into a running tierd.
//
// Callers:   the test's main thread.
// Fails:     as a requirement of Boost.Test; where policies can't be loaded at all the whole program is skipped, with the reason.
#pragma once

#include <boost/test/unit_test.hpp>
#include <string>

#include "lib/base/base64.h"
#include "lib/policy/bpf_object.h"
#include "tests/integration/harness.h"

namespace tierd::itest {

struct NeedsBpf {
    NeedsBpf() {
        if (auto usable = bpf_usable(); !usable)
            skip_program("policies can't be loaded here: " + usable.error().text());
    }
};

// The body of PUT /v1/policy for an object that was built; `folder`: "/policies/" of those that ship, "/tests/policies/".
inline std::string load_request(const std::string& name, const std::string& folder,
                                const Json& knobs = Json::object()) {
    auto file = read_object(build_dir() + folder + name + ".bpf.o");
    BOOST_REQUIRE_MESSAGE(file.has_value(), (file ? "" : file.error().text()));
    return Json{{"name", name}, {"object", to_base64(file->bytes)}, {"knobs", knobs}}.dump();
}

}  // namespace tierd::itest
