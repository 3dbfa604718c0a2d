// file_identity.h - identifies a file and its state: two bytes with equal identity and offset are equal.
//
// Owns:      the identity record; not the file.
// Invariant: two identities with equal fields belong to the same file, with no write in between, as far as the clock of
//            its file system can show.
// Callers:   any thread; identify() may block on a file system that hangs, so the engine's thread calls it only for
//            files on a local disk.
// Fails:     identify() with bad_input if it is not a regular file, otherwise the errno of fstat(2).
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
