// reads.h - what the engine has read out of weight files into buffers of its own, so that a copy from such a buffer to
// the
// GPU can be proved to be one of the file.
//
// Engines that do not map their weights read them piece by piece into a few pinned buffers. What was read where is kept
// for a while; when one of those buffers is copied to the GPU, its bytes are compared with the file's. Equal: the copy
// is recorded like one out of a mapping. So nothing here has to be right for the bytes to be.
//
// Owns:      a ring of the last reads, and a descriptor of each weight file among them.
// Invariant: find() says yes only when every byte at the address was the file's, at that moment.
// Callers:   note(): any thread, without our locks, also in a signal handler. covers(), find(): with the GPU's lock
//            held.
// Fails:     what is not in the ring, or can't be compared, was not read.
#pragma once

#include <stdint.h>

#include "cuda_shim/host/attachment.h"
#include "cuda_shim/host/sys.h"

namespace tierd::shim::cuda {

struct ReadPlace {
    FileIdentity identity;
    int fd = -1;
    uint64_t offset_bytes = 0;
};

class Reads {
  public:
    static constexpr uint32_t kRows = 64;
    static constexpr uint32_t kFiles = 64;

    // The engine read so much at this offset of the file.
    void note(int fd, const void* address, uint64_t length_bytes, uint64_t offset_bytes);
    // Whether find() is worth a try: the engine read into all of the range. Looks at no byte of it.
    bool covers(uint64_t address, uint64_t length_bytes);
    bool find(uint64_t address, uint64_t length_bytes, ReadPlace* place);
    void reset_in_child();

  private:
    struct File {
        FileIdentity identity;
        OwnedFd fd;
        bool is_weights = false;
    };
    struct Row {
        uint64_t address = 0;
        uint64_t length_bytes = 0;
        uint64_t offset_bytes = 0;
        uint32_t file = 0;
    };
    uint32_t file_of(int fd);
    bool look_up(uint64_t address, uint64_t length_bytes, ReadPlace* place);
    bool is_equal(uint64_t address, uint64_t length_bytes, const ReadPlace& place);

    Lock lock_;  // guards all below but the scratch
    File files_[kFiles];
    uint32_t file_count_ = 0;
    Row rows_[kRows];
    uint32_t last_ = 0;
    char* scratch_ = nullptr;  // what the file says
};

}  // namespace tierd::shim::cuda
