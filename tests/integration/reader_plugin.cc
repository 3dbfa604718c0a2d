// reader_plugin.cc - a library that arrives by dlopen() and maps a file under the name that 32-bit-clean
// programs use.
#include <sys/mman.h>

#include <cstddef>

// Maps the whole of `fd` read-only. Returns MAP_FAILED with errno set on failure; the caller owns the
// mapping.
extern "C" void* plugin_map_whole(int fd, size_t length_bytes) {
    return mmap64(nullptr, length_bytes, PROT_READ, MAP_SHARED, fd, 0);
}
