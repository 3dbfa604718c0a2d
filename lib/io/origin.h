// origin.h - a weight file opened for reading: the origin, from which clean bytes can always be read again.
//
// Owns:      the descriptors of the file and the identity that it had when it was attached.
// Invariant: reads use descriptors of our own (O_DIRECT) or of the client (buffered); no descriptor with write access
//            is ever made.
// Callers:   open_origin() may block on a file system that hangs: call it on the session's own thread. The rest is
//            constant.
#pragma once

#include <cstdint>

#include "lib/base/fd.h"
#include "lib/model/file_identity.h"

namespace tierd {

struct Origin {
    Fd fd;  // what fills read from
    bool direct =
        false;  // O_DIRECT: page cache untouched; else buffered, and the cache is dropped behind each read
    bool local_disk = true;  // fstat(2) can't hang: the file system is one of the well-known local ones
    FileIdentity identity;

    // True while the file is still what it was when it was attached. fstat(2): only for local_disk on the
    // engine's thread.
    bool unchanged() const;

    // From now on reads go through the page cache: the file system took O_DIRECT at open and refuses it now. The open
    // file is our own, so we may change it.
    void leave_direct();
    // Lets the page cache forget what was read through it. Any thread; may wait for the disk.
    void drop_cache(uint64_t offset_bytes, uint64_t length_bytes) const;
};

// `client_fd` is any readable descriptor of a regular file (checked here: no O_PATH, no O_WRONLY, no device,
// FIFO or directory). Opens the same file again with O_DIRECT where the file system and our rights allow it
// (and `direct` asks for it), else duplicates the client's descriptor. Errors: bad_input, denied, errno of
// fstat(2).
Result<Origin> open_origin(const Fd& client_fd, bool direct);

// The alignment that O_DIRECT reads here use for offset, length and memory: safe for every disk in use.
inline constexpr uint64_t kDirectAlign = 4096;

}  // namespace tierd
