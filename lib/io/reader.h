// reader.h - asynchronous reads from origins: one io_uring.
//
// Owns:      the ring and its table of registered files.
// Invariant: every accepted request completes exactly once through reap(). Destination memory is never
//            registered with the ring: registered buffers pin pages, and arena pages must stay movable.
// Callers:   the engine's thread only. flush() may take page faults on the destination; the kernel zeroes fresh
//            memory then.
// Fails:     make() returns the kernel's error; a failed read has a negative errno in its completion.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "lib/base/result.h"

namespace tierd {

struct ReadRequest {
    uint64_t tag = 0;  // the caller's own; below 2^63
    int file = -1;     // from add_file()
    uint64_t offset_bytes = 0;
    uint32_t length_bytes = 0;
    char* into = nullptr;
    bool may_hang = false;  // the file system may not answer: never issued from the caller's thread
};

struct Completion {
    uint64_t tag = 0;
    int64_t result = 0;  // bytes read, or a negative errno; for stat requests 0 or a negative errno
};

class Reader {
  public:
    // `entries`: requests that may be under way at once, 1 to 4096. `max_files`: size of the table of
    // registered files.
    static Result<std::unique_ptr<Reader>> make(uint32_t entries, uint32_t max_files);
    virtual ~Reader() = default;

    // Registers a descriptor; it may be closed by the caller only after remove_file(). Errors: no_space.
    virtual Result<int> add_file(int fd) = 0;
    virtual void remove_file(int file) = 0;

    // False when the ring is full: reap() first. flush() hands what was queued to the kernel; call it once a
    // round.
    virtual bool read(const ReadRequest& request) = 0;
    // Asks for the file's attributes without blocking; `into` is a struct statx and lives until the
    // completion.
    virtual bool stat(uint64_t tag, int fd, void* into) = 0;
    virtual void flush() = 0;

    // Hands every finished request to `done`. Never blocks. Returns how many there were.
    virtual size_t reap(const std::function<void(const Completion&)>& done) = 0;

    // Readable (epoll) when reap() has something to do.
    virtual int poll_fd() const = 0;
    virtual uint32_t in_flight() const = 0;
};

}  // namespace tierd
