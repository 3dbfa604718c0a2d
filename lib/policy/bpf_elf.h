// bpf_elf.h - checks a policy's object before the kernel does: is it a tierd policy, and does it call only what a
// policy may call?
//
// Owns:      the rules that the verifier does not know: ABI version, licence, hooks, helpers, kernel functions; and
//            valid type information (btf_check.h).
// Invariant: reads only; returns a verdict for any bytes. An accepted object refers to kernel objects by relocations
//            alone, so it can't use a descriptor or a function that it was not given.
// Callers:   any thread.
// Fails:     bad_input, with what the author must change.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "lib/base/result.h"
#include "lib/policy/hooks.h"

namespace tierd {

inline constexpr size_t kMaxObjectBytes = 4 << 20;

struct ObjectSummary {
    std::string licence;
    std::vector<Hook> hooks;
};

// `name` is for messages.
Result<ObjectSummary> inspect_object(std::span<const char> bytes, const std::string& name);

}  // namespace tierd
