// btf_check.h - is an object's type information (.BTF, .BTF.ext) valid? Checked before libbpf reads it: libbpf trusts
// the compiler's output and follows any offset and type number.
//
// Owns:      the format's rules that reading depends on: everything lies inside its section, strings end, each type
//            number exists and has the kind that its place requires, and no type contains itself.
// Invariant: reads only; returns a verdict for any bytes, in time linear in their number.
// Callers:   any thread. Never fails otherwise.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

namespace tierd {

// What is wrong, in words; nothing: libbpf may read it. `ext` may be empty: the object has no .BTF.ext. `code_bytes`
// is the size of the object's largest section of code.
std::optional<std::string> btf_trouble(std::span<const char> btf, std::span<const char> ext,
                                       uint64_t code_bytes);

}  // namespace tierd
