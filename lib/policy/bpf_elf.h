// bpf_elf.h - looks at a policy's object before the kernel does: is it one of ours, and does it keep to what a policy
// may call?
//
// Owns:      the rules that the verifier does not know: ABI version, licence, hooks, helpers, kernel functions; and that the type
//            information is whole (btf_check.h).
// Invariant: reads only; whatever the bytes hold, it ends with a verdict. An object that passes names kernel objects by
//            relocations alone, so it can't reach a descriptor or a function that it was not given.
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
