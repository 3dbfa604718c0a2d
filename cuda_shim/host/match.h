// match.h - decides which files are weight files.
//
// Owns:      nothing; reads a name and a file's first bytes.
// Callers:   any thread. The file's first page may be read from the disk; the kernel's mapping would read it as well.
// Fails:     a file that can't be read is no weight file.
#pragma once

#include <stdint.h>

namespace tierd::shim {

// True when `path` matches one of the colon-separated `globs`: '*' is any text, slashes too, '?' any one
// character. A glob without a slash is also tried on the last part of the path. An empty list matches
// nothing.
bool path_matches(const char* path, const char* globs);

// True when the file begins like a GGUF file ("GGUF") or like a safetensors file (little-endian length of the
// header, which must fit the file, then '{'). `size_bytes` is the file's.
bool has_weight_header(int fd, uint64_t size_bytes);

}  // namespace tierd::shim
