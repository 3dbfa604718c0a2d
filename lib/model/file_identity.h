// file_identity.h - which file, and which state of it: what must be equal for two bytes to be the same bytes.
//
// Owns:      the identity record; not the file.
// Invariant: two identities equal in every field are of the same file, with nothing written in between as far
//            as the clock of its file system can tell.
// Callers:   any thread; identify() may block on a file system that hangs, so never on the engine's thread
//            for files that are not on a local disk.
// Fails:     identify() with bad_input for what is no regular file, else the errno of fstat(2).
#pragma once

#include <cstdint>
#include <string>

#include "lib/base/result.h"

namespace tierd {

struct FileIdentity {
    uint64_t device = 0;
    uint64_t inode = 0;
    uint64_t size_bytes = 0;
    int64_t mtime_ns = 0;  // since the epoch
    int64_t ctime_ns = 0;

    bool operator==(const FileIdentity&) const = default;
};

// Reads the identity with fstat(2); `fd` is borrowed. Errors: bad_input where `fd` is not a regular file,
// otherwise kernel_refused with errno.
Result<FileIdentity> identify(int fd);

// A stable text of the identity, the key of the state database: "device:inode:size:mtime". The change time is
// left out: a rename or a new owner changes it, and what was learned of the bytes stays true.
std::string identity_key(const FileIdentity& identity);

}  // namespace tierd
