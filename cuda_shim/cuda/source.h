// source.h - where the bytes of a host-to-device copy come from: the weight files that arenas serve to this process.
//
// An engine unmaps a weight file as soon as its load calls have returned, so each file that a copy came from is mapped
// once
// more, by us, for as long as the process lives: through the same arena, so its bytes are in memory once and tierd may
// evict them. When tierd goes, that mapping becomes the kernel's like every other.
//
// Owns:      the table of files, one mapping and one descriptor each.
// Invariant: find() says yes only when every byte of the range is the file's: the range lies in one region of an arena
//            and
//            the engine has written to no page of it.
// Callers:   any thread, with the GPU's lock held and none of the host half's.
// Fails:     find(): false. bytes() may wait for tierd to read, and gives SIGBUS where the kernel's mapping would.
#pragma once

#include <stdint.h>

#include "cuda_shim/cuda/reads.h"
#include "cuda_shim/host/attachment.h"

namespace tierd::shim::cuda {

class Sources {
  public:
    static constexpr uint32_t kMaxFiles = 1024;

    // Where [address, address + length_bytes) stands in a file.
    bool find(uint64_t address, uint64_t length_bytes, uint32_t* file, uint64_t* offset_bytes);
    // The row of a file that the engine read; kNone when tierd does not serve it.
    uint32_t know_read(const ReadPlace& place);
    const char* bytes(uint32_t file, uint64_t offset_bytes) const {
        return reinterpret_cast<const char*>(files_[file].mapping + offset_bytes);
    }
    // tierd's for the file; 0 when it is not known.
    uint64_t number(uint32_t file) const { return files_[file].number; }
    // False when the file is no longer the one that was attached: its old bytes can't be had any more.
    bool unchanged(uint32_t file) const;

  private:
    struct File {
        FileIdentity identity;
        uint64_t mapping = 0;
        uint64_t number = 0;
        OwnedFd fd;
    };
    uint32_t row_of(const FileIdentity& identity) const;
    uint32_t know(uint32_t attachment, const FileIdentity& identity);
    uint32_t map(const FileIdentity& identity, OwnedFd fd);

    File files_[kMaxFiles] = {};
    uint32_t count_ = 0;
};

}  // namespace tierd::shim::cuda
