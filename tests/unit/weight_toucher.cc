// weight_toucher - maps a weight file and touches one byte in each of the named extents, each in a mapping of its own.
//   weight_toucher FILE EXTENT_BYTES EXTENT...
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>

extern "C" __attribute__((noinline, used)) int touch_weights(const volatile char* at) {
    return *at;
}

int main(int argc, char** argv) {
    if (argc < 3) return 2;
    int fd = ::open(argv[1], O_RDONLY | O_CLOEXEC);
    struct stat st{};
    if (fd < 0 || ::fstat(fd, &st) != 0) return 1;
    auto extent_bytes = std::strtoull(argv[2], nullptr, 10);
    int sum = 0;
    for (int i = 3; i < argc; i++) {
        void* mapped = ::mmap(nullptr, static_cast<size_t>(st.st_size), PROT_READ, MAP_PRIVATE, fd, 0);
        if (mapped == MAP_FAILED) return 1;
        sum += touch_weights(static_cast<const char*>(mapped) +
                             std::strtoull(argv[i], nullptr, 10) * extent_bytes);
        ::munmap(mapped, static_cast<size_t>(st.st_size));
    }
    return sum == 12345 ? 3 : 0;
}
