// arena.h - the sparse memory file of one weight file: offset in the arena = offset in the weight file.
//
// Owns:      the memory file, tierd's own writable mapping of it, and the read-only descriptor that clients map.
// Invariant: clients never hold a descriptor that could write, grow or shrink it. Memory exists only where tierd has
//            filled or is filling.
// Callers:   reserve() and release() from any thread, but only one of them at a time for one range (the extent's state
//            decides which); the rest is constant after creation.
#pragma once

#include <cstdint>
#include <string>

#include "lib/arena/backing.h"
#include "lib/base/fd.h"

namespace tierd {

class Arena {
  public:
    // Takes over a fresh, empty memory file. `writable` and `readonly` are descriptors of the same file.
    // `length_bytes` is a multiple of the page size. Errors: errno of ftruncate(2) or mmap(2).
    static Result<Arena> adopt(Fd writable, Fd readonly, uint64_t length_bytes, Backing backing,
                               bool makes_folios = false);

    // Where tierd writes the bytes of `offset_bytes`. Valid for the arena's life.
    char* at(uint64_t offset_bytes) const { return mapping_.data() + offset_bytes; }
    uint64_t length_bytes() const { return mapping_.size_bytes(); }
    uint64_t page_bytes() const;  // what addresses of client mappings must be congruent to
    Backing backing() const { return backing_; }
    bool makes_folios() const { return makes_folios_; }
    // "0:31:4711": the device and the inode by which maps of processes show it; empty where that can't be found out.
    std::string name() const;
    int readonly_fd() const { return readonly_.get(); }
    int writable_fd() const { return writable_.get(); }  // never leaves tierd

    // Fills of the range through at() take transparent huge pages from now on, where the arena can have them.
    // Elsewhere pages stay small, whatever is written there. madvise(2).
    void want_huge_pages(uint64_t offset_bytes, uint64_t length_bytes) const;

    // Makes sure that filling the range can't run out of pages half-way. Only hugetlb has anything to do: a
    // touch without a free page would be SIGBUS. Errors: no_space.
    Result<void> reserve(uint64_t offset_bytes, uint64_t length_bytes) const;

    // Makes the range's memory before it is read into. madvise(2), MADV_POPULATE_WRITE; what it can't is made by the
    // read.
    void populate(uint64_t offset_bytes, uint64_t length_bytes) const;

    // The same of folios smaller than a huge page, as large as they fit, where makes_folios(). The first and the last
    // page stay small: no folio reaches beyond the range, where it would bring its neighbours' memory, and the first
    // page can be renewed cheaply. A multiple of the page size, two at least. Within one arena by one thread at a
    // time.
    void populate_folios(uint64_t offset_bytes, uint64_t length_bytes) const;

    // Puts bytes into the arena from a buffer. Errors: errno of pwrite(2); part of the range may then be written.
    Result<void> store(uint64_t offset_bytes, const char* from, uint64_t length_bytes) const;

    // Returns the range's memory and unmaps it from every client; pages that clients wrote privately stay
    // theirs on shmem. fallocate(2), FALLOC_FL_PUNCH_HOLE. Errors: errno.
    Result<void> release(uint64_t offset_bytes, uint64_t length_bytes) const;

    // Takes the page at `offset_bytes` out of every client's mapping and puts its bytes back: its next touch is a
    // fault that UFFDIO_CONTINUE resolves. Not for hugetlb, and not for a part of a huge page. About 10 µs; more
    // where it splits a folio. Errors: gone where there is no page, which would be put back as zeros; errno, and the
    // page may then be lost. Either way the extent is no longer whole.
    Result<void> rearm_page(uint64_t offset_bytes) const;

    // Bytes of memory that the file holds now, as the kernel counts them.
    uint64_t allocated_bytes() const;

  private:
    Arena(Fd writable, Fd readonly, Mapping mapping, Backing backing, bool makes_folios)
        : writable_(std::move(writable)),
          readonly_(std::move(readonly)),
          mapping_(std::move(mapping)),
          backing_(backing),
          makes_folios_(makes_folios) {}

    Fd writable_;
    Fd readonly_;
    Mapping mapping_;
    Backing backing_;
    bool makes_folios_;
};

}  // namespace tierd
