#include "lib/io/bounce_buffers.h"

#include <sys/mman.h>

#include "lib/base/bytes.h"

namespace tierd {

Result<BounceBuffers> BounceBuffers::make(uint64_t buffer_bytes) {
    uint64_t length_bytes = (kBounceBuffers + 1) * buffer_bytes;  // one more, for the alignment
    void* memory = ::mmap(nullptr, length_bytes, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return os_error("map bounce buffers");
    Mapping mapping(memory, length_bytes);
    ::madvise(memory, length_bytes, MADV_HUGEPAGE);
    uint64_t address = reinterpret_cast<uint64_t>(memory);
    char* first = mapping.data() + (round_up(address, buffer_bytes) - address);
    std::vector<char*> free;
    for (uint32_t i = kBounceBuffers; i > 0; i--) free.push_back(first + (i - 1) * buffer_bytes);
    return BounceBuffers(std::move(mapping), std::move(free));
}

char* BounceBuffers::take() {
    if (free_.empty()) return nullptr;
    char* buffer = free_.back();
    free_.pop_back();
    return buffer;
}

void BounceBuffers::give_back(char* buffer) {
    free_.push_back(buffer);
}

}  // namespace tierd
