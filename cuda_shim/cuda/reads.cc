#include "cuda_shim/cuda/reads.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cuda_shim/cuda/lookup.h"
#include "cuda_shim/cuda/shim.h"
#include "cuda_shim/host/match.h"
#include "cuda_shim/host/shim_state.h"

namespace tierd::shim::cuda {

namespace {

constexpr uint64_t kMinBytes = 64;  // shorter reads are headers
constexpr uint64_t kScratchBytes = 64 << 10;

bool is_weight_file(int fd, uint64_t size_bytes) {
    if (size_bytes < state().config.min_bytes) return false;
    if (has_weight_header(fd, size_bytes)) return true;
    if (state().config.match[0] == '\0') return false;
    char path[kMaxPath];
    return name_of(fd, path, sizeof path) && path_matches(path, state().config.match);
}

}  // namespace

// The row of a file. A full table knows no more files.
uint32_t Reads::file_of(int fd) {
    struct stat st{};
    if (sys::fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) return kNone;
    FileIdentity identity = FileIdentity::of(st);
    for (uint32_t i = 0; i < file_count_; i++)
        if (files_[i].identity == identity) return i;
    if (file_count_ == kFiles) return kNone;
    File& file = files_[file_count_];
    file.identity = identity;
    file.is_weights = is_weight_file(fd, static_cast<uint64_t>(st.st_size));
    if (file.is_weights) file.fd = OwnedFd::copy_of(fd);
    return file_count_++;
}

void Reads::note(int fd, const void* address, uint64_t length_bytes, uint64_t offset_bytes) {
    if (length_bytes < kMinBytes) return;
    Guard guard(lock_);
    uint32_t file = file_of(fd);
    if (file == kNone || files_[file].fd.fd < 0) return;
    uint64_t at = reinterpret_cast<uint64_t>(address);
    Row& last = rows_[last_];
    // One read of the engine's is often several of the kernel's.
    bool goes_on = last.file == file && last.length_bytes != 0 && at == last.address + last.length_bytes &&
                   offset_bytes == last.offset_bytes + last.length_bytes;
    if (goes_on) {
        last.length_bytes += length_bytes;
        return;
    }
    last_ = (last_ + 1) % kRows;
    rows_[last_] = {at, length_bytes, offset_bytes, file};
}

// The newest read that covers the range.
bool Reads::look_up(uint64_t address, uint64_t length_bytes, ReadPlace* place) {
    Guard guard(lock_);
    for (uint32_t i = 0; i < kRows; i++) {
        const Row& row = rows_[(last_ + kRows - i) % kRows];
        if (address < row.address || length_bytes > row.length_bytes ||
            address - row.address > row.length_bytes - length_bytes)
            continue;
        const File& file = files_[row.file];
        if (!file.fd.still_ours()) return false;
        *place = {file.identity, file.fd.fd, row.offset_bytes + (address - row.address)};
        return true;
    }
    return false;
}

bool Reads::is_equal(uint64_t address, uint64_t length_bytes, const ReadPlace& place) {
    if (scratch_ == nullptr) {
        long got = sys::mmap(0, kScratchBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (sys::failed(got)) return false;
        scratch_ = reinterpret_cast<char*>(got);
    }
    for (uint64_t done = 0; done < length_bytes;) {
        uint64_t part = length_bytes - done < kScratchBytes ? length_bytes - done : kScratchBytes;
        long got = sys::pread(place.fd, scratch_, part, place.offset_bytes + done);
        if (got <= 0 || static_cast<uint64_t>(got) > part ||
            ::memcmp(scratch_, reinterpret_cast<const char*>(address + done), static_cast<size_t>(got)) != 0)
            return false;
        done += static_cast<uint64_t>(got);
    }
    return true;
}

bool Reads::covers(uint64_t address, uint64_t length_bytes) {
    ReadPlace place;
    return length_bytes > 0 && look_up(address, length_bytes, &place);
}

bool Reads::find(uint64_t address, uint64_t length_bytes, ReadPlace* place) {
    return length_bytes > 0 && look_up(address, length_bytes, place) &&
           is_equal(address, length_bytes, *place);
}

void Reads::reset_in_child() {
    lock_.reset();
}

namespace {

bool are_wanted() {
    return !shim().gate.is_unused();
}

template <class Function>
Function* libc_function(Function*& known, const char* name) {
    Function* found = __atomic_load_n(&known, __ATOMIC_ACQUIRE);
    if (found != nullptr) return found;
    found = reinterpret_cast<Function*>(find_in_libc(name));
    __atomic_store_n(&known, found, __ATOMIC_RELEASE);
    return found;
}

// errno is the engine's.
void note_read(int fd, const void* into, ssize_t got, uint64_t offset_bytes) {
    if (got > 0) shim().reads.note(fd, into, static_cast<uint64_t>(got), offset_bytes);
}

}  // namespace

}  // namespace tierd::shim::cuda

using namespace tierd::shim::cuda;
using tierd::shim::sys::call;

#define TIERD_EXPORT extern "C" __attribute__((visibility("default")))

TIERD_EXPORT ssize_t read(int fd, void* into, size_t length) {
    static constinit decltype(::read)* next = nullptr;
    ssize_t got = libc_function(next, "read")(fd, into, length);
    if (got > 0 && are_wanted()) {
        long end = call(SYS_lseek, fd, 0, SEEK_CUR);
        if (end >= got) note_read(fd, into, got, static_cast<uint64_t>(end - got));
    }
    return got;
}

TIERD_EXPORT ssize_t pread(int fd, void* into, size_t length, off_t offset) {
    static constinit decltype(::pread)* next = nullptr;
    ssize_t got = libc_function(next, "pread")(fd, into, length, offset);
    if (are_wanted()) note_read(fd, into, got, static_cast<uint64_t>(offset));
    return got;
}

TIERD_EXPORT ssize_t pread64(int fd, void* into, size_t length, off64_t offset) {
    static constinit decltype(::pread64)* next = nullptr;
    ssize_t got = libc_function(next, "pread64")(fd, into, length, offset);
    if (are_wanted()) note_read(fd, into, got, static_cast<uint64_t>(offset));
    return got;
}

// What stdio reads, it reads inside of libc, where nobody can stand before it.
TIERD_EXPORT size_t fread(void* into, size_t size, size_t count, FILE* file) {
    static constinit decltype(::fread)* next = nullptr;
    int before = errno;
    off_t offset = are_wanted() ? ::ftello(file) : -1;
    errno = before;
    size_t got = libc_function(next, "fread")(into, size, count, file);
    if (offset >= 0 && got > 0) {
        int after = errno;
        note_read(::fileno(file), into, static_cast<ssize_t>(got * size), static_cast<uint64_t>(offset));
        errno = after;
    }
    return got;
}
