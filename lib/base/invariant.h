// invariant.h - checks that run in every build, next to the fields that they are about.
//
// Callers:   any thread. One comparison, and a branch that is never taken.
// Fails:     the process ends and prints the place and the sentence. To continue could show a client wrong bytes; when
//            tierd dies, every session falls back to the kernel's mapping.
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
