// invariant.h - what must hold in every build, beside the fields that it is about.
//
// Fails:     the process ends with the place and the sentence. To go on could show a client wrong bytes; a dead tierd sends
//            every session to the kernel's mapping.
// Callers:   any thread. One comparison and a branch that is never taken.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <source_location>

namespace tierd {

inline void invariant(bool holds, const char* what,
                      std::source_location place = std::source_location::current()) {
    if (holds) [[likely]]
        return;
    std::fprintf(stderr, "%s:%u: broken invariant: %s\n", place.file_name(), place.line(), what);
    std::abort();
}

}  // namespace tierd
