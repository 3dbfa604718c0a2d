#include "cuda_shim/host/match.h"

#include <string.h>

#include "cuda_shim/host/sys.h"

namespace tierd::shim {

// Matches greedily with one place to come back to: the last '*'.
static bool glob_matches(const char* text, const char* glob, const char* glob_end) {
    const char* star = nullptr;
    const char* resume = nullptr;
    while (*text != '\0') {
        if (glob != glob_end && *glob == '*') {
            star = glob++;
            resume = text;
        } else if (glob != glob_end && (*glob == '?' || *glob == *text)) {
            glob++;
            text++;
        } else if (star != nullptr) {
            glob = star + 1;
            text = ++resume;
        } else {
            return false;
        }
    }
    while (glob != glob_end && *glob == '*') glob++;
    return glob == glob_end;
}

bool path_matches(const char* path, const char* globs) {
    const char* slash = ::strrchr(path, '/');
    const char* name = slash == nullptr ? path : slash + 1;
    while (*globs != '\0') {
        const char* end = ::strchrnul(globs, ':');
        bool whole_path = ::memchr(globs, '/', static_cast<size_t>(end - globs)) != nullptr;
        if (end != globs &&
            (glob_matches(path, globs, end) || (!whole_path && glob_matches(name, globs, end))))
            return true;
        globs = *end == '\0' ? end : end + 1;
    }
    return false;
}

bool has_weight_header(int fd, uint64_t size_bytes) {
    unsigned char first[9];
    if (sys::pread(fd, first, sizeof first, 0) != sizeof first) return false;
    if (::memcmp(first, "GGUF", 4) == 0) return true;
    uint64_t header_bytes = 0;
    for (int i = 7; i >= 0; i--) header_bytes = header_bytes << 8 | first[i];
    return first[8] == '{' && header_bytes > 0 && header_bytes <= size_bytes - 8;
}

}  // namespace tierd::shim
