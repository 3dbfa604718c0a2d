// fd.h - file descriptors and mappings with an owner.
//
// Owns:      the descriptor (Fd) or the address range (Mapping); both are released exactly once.
// Callers:   any thread; a single object is not for two threads at once.
// Fails:     never by itself; the functions that make descriptors report errors.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <string>
#include <utility>

#include "lib/base/result.h"

namespace tierd {

class Fd {
  public:
    Fd() noexcept = default;
    explicit Fd(int raw) noexcept : raw_(raw) {}
    Fd(Fd&& other) noexcept : raw_(std::exchange(other.raw_, -1)) {}
    Fd& operator=(Fd&& other) noexcept {
        std::swap(raw_, other.raw_);
        return *this;
    }
    ~Fd();

    int get() const noexcept { return raw_; }
    explicit operator bool() const noexcept { return raw_ >= 0; }
    int release() noexcept { return std::exchange(raw_, -1); }
    void reset() noexcept { Fd dropped(std::exchange(raw_, -1)); }

  private:
    int raw_ = -1;
};

// A range of this process's address space, unmapped when the object goes.
class Mapping {
  public:
    Mapping() noexcept = default;
    Mapping(void* address, size_t length_bytes) noexcept : address_(address), length_bytes_(length_bytes) {}
    Mapping(Mapping&& other) noexcept
        : address_(std::exchange(other.address_, nullptr)),
          length_bytes_(std::exchange(other.length_bytes_, 0)) {}
    Mapping& operator=(Mapping&& other) noexcept {
        std::swap(address_, other.address_);
        std::swap(length_bytes_, other.length_bytes_);
        return *this;
    }
    ~Mapping();

    char* data() const noexcept { return static_cast<char*>(address_); }
    size_t size_bytes() const noexcept { return length_bytes_; }

  private:
    void* address_ = nullptr;
    size_t length_bytes_ = 0;
};

// open(2) with O_CLOEXEC added. Errors: errno of open(2).
Result<Fd> open_file(const std::string& path, int flags, mode_t mode = 0);

// Another descriptor of the same open file description, close-on-exec. Errors: errno of fcntl(2).
Result<Fd> duplicate(const Fd& fd);

// eventfd(2), non-blocking, close-on-exec: one thread wakes another's poll with it.
Result<Fd> make_eventfd();

}  // namespace tierd
