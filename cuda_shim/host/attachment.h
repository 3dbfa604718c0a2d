// attachment.h - the weight files that tierd serves to this process.
//
// Owns:      for each file a descriptor of the weight file (to fall back to the kernel's mapping) and one of its
//            arena.
// Invariant: a row lives as long as a region refers to it or a caller has it pinned. `arena` is empty once its
//            session has ended: no new region is made then, but the private pages that remain still need the weight
//            file.
// Callers:   any thread, with the table lock held.
// Fails:     negative errno, or kNoAttachment.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "cuda_shim/host/owned_fd.h"

namespace tierd::shim {

inline constexpr uint32_t kMaxAttachments = 4096;
inline constexpr uint32_t kNoAttachment = UINT32_MAX;
inline constexpr size_t kMaxPath = 4096;

// What must stay the same for a file to be the one that tierd attached.
struct FileIdentity {
    uint64_t device = 0;
    uint64_t inode = 0;
    int64_t size_bytes = 0;
    timespec modified{};
    timespec changed{};

    static FileIdentity of(const struct stat& st);
    bool operator==(const FileIdentity& other) const;
};

struct Attachment {
    uint32_t users = 0;  // regions and pins; 0: the row is free
    OwnedFd weights;
    OwnedFd arena;
    FileIdentity identity;
    uint64_t number = 0;      // tierd's for the file
    uint64_t page_bytes = 0;  // of the arena
    uint64_t arena_bytes = 0;
    char path[kMaxPath];
};

class AttachmentTable {
  public:
    bool prepare();  // as RegionTable's
    Attachment& operator[](uint32_t index) { return rows_[index]; }

    // The attached file with this identity, pinned; kNoAttachment when there is none.
    uint32_t find(const FileIdentity& identity);
    // A free row, pinned, with nothing in it; kNoAttachment when all are taken.
    uint32_t take();
    // Gives back a pin, and closes the descriptors of a row that is no longer used.
    void unpin(uint32_t index);
    // Closes rows that no region refers to.
    void collect();
    // The session has ended: closes all arenas.
    void end_session();

    // The weight file's descriptor. An engine that closed it without knowing, and perhaps has another file
    // under its number, costs one open(2) of the remembered path. Returns a negative errno when the file
    // can't be had any more.
    int weight_fd(uint32_t index);

  private:
    void close_row(Attachment& row);

    Attachment* rows_ = nullptr;
    uint32_t used_rows_ = 0;  // rows behind it were never used
};

}  // namespace tierd::shim
