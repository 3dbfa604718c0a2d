// btf_check.h - is an object's type information (.BTF, .BTF.ext) whole? Asked before libbpf reads it: libbpf trusts a
// compiler's output and follows offsets and type numbers wherever they lead.
//
// Owns:      the rules of the format that reading relies on: everything lies inside its section, strings end, each number of a
//            type names one, a type of the kind that must stand there, and no type contains itself.
// Invariant: reads only; whatever the bytes hold, it ends with a verdict, in time linear in their number.
// Callers:   any thread. Never fails otherwise.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

namespace tierd {

// What is wrong, in words; nothing: libbpf may read it. `ext` may be empty: the object has no .BTF.ext. `code_bytes` is the
// size of the object's largest section of code.
std::optional<std::string> btf_trouble(std::span<const char> btf, std::span<const char> ext,
                                       uint64_t code_bytes);

}  // namespace tierd
