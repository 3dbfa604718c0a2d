// knobs.h - the constants of a policy (TIERD_KNOB) that can be set before it is loaded.
//
// Owns:      nothing; reads and writes the image of .rodata of an opened object that is not loaded yet.
// Invariant: only a variable of .rodata that is a number or a char array is ever written, within its own bytes.
// Callers:   the loader of the object.
// Fails:     bad_input: no such knob (the hint lists the knobs), or a value that it can't hold.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "lib/base/result.h"
#include "lib/policy/bpf_object.h"

namespace tierd {

Result<void> set_knobs(::bpf_object* object, std::span<const Knob> knobs);
std::vector<Knob> read_knobs(::bpf_object* object);

}  // namespace tierd
