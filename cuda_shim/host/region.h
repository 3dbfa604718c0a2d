// region.h - which addresses of this process map an arena, and at which offset of its file.
//
// Owns:      the table of regions, in memory of its own.
// Invariant: regions are sorted by address and do not overlap; every address that maps an arena lies in one. The
//            regions of a hugetlb arena cover whole huge pages: a part that the engine has not mapped, or has
//            unmapped while its huge page was still needed, is a `dead` region.
// Callers:   any thread, with the table lock held, except for misses(), which needs no lock.
// Fails:     false if the table is full; it is then unchanged.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "lib/session/wire.h"

namespace tierd::shim {

enum class RegionKind : uint8_t {
    arena,          // registered with the userfaultfd, served by tierd
    private_pages,  // fallen back: an arena mapping of which every page is the client's own copy, so the arena is
                    // never read
    dead,           // of a huge page that is still needed for its other regions
};

struct Region {
    uint64_t begin = 0;
    uint64_t end = 0;
    uint64_t offset_bytes = 0;  // in the file, of `begin`
    uint32_t file = 0;          // row of the attachment table
    int prot = 0;               // as the engine last asked
    RegionKind kind = RegionKind::arena;
    bool huge = false;        // of a hugetlb arena
    bool shared = false;      // the engine asked for MAP_SHARED: so will the kernel's mapping be
    bool writable = false;    // may hold the client's own pages
    bool not_forked = false;  // the engine asked for MADV_DONTFORK
};

class RegionTable {
  public:
    // Takes the table's memory; further calls do nothing. Returns false when there is none.
    bool prepare();

    size_t count() const { return count_; }
    Region& operator[](size_t index) { return rows_[index]; }

    // Index of the first region that ends behind `address`; count() when there is none.
    size_t first_behind(uint64_t address) const;
    bool touches(uint64_t begin, uint64_t end) const;

    // True when no region can lie in [begin, end). Needs no lock: a region that comes at this very moment is
    // one that the caller does not know of yet.
    bool misses(uint64_t begin, uint64_t end) const;

    bool has_room() const { return count_ + kSpareRows < kRows; }
    bool insert(const Region& region);
    // Cuts the region that spans `address` in two. True also when there is none.
    bool split(uint64_t address);
    // Moves a region's end to `end`, which must not reach into the next one.
    void extend(size_t index, uint64_t end);
    void erase(size_t index);
    // Forgets everything in [begin, end), cutting at the edges.
    bool cut(uint64_t begin, uint64_t end);

  private:
    static constexpr size_t kSpareRows = 64;  // for the splits of what is there already
    static constexpr size_t kRows = wire::kMaxRegionsPerSession;
    void publish_bounds();

    Region* rows_ = nullptr;
    size_t count_ = 0;
    uint64_t lowest_ = UINT64_MAX;
    uint64_t highest_ = 0;
};

}  // namespace tierd::shim
