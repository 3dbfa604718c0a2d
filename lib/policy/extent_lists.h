// extent_lists.h - doubly linked lists of extents, kept by row number: ordered, without an allocation per entry.
//
// Owns:      four words per row (previous, next, which list, its bytes) and the lists' heads and sums.
// Invariant: a row is in at most one list; walking a list visits each of its rows once.
// Callers:   one policy, the engine's thread. Every operation is O(1).
// Fails:     never; a row beyond the reserved ones is in no list and can't be put in one.
#pragma once

#include <cstdint>
#include <vector>

#include "lib/policy/policy.h"

namespace tierd {

class ExtentLists {
  public:
    using List = uint32_t;
    static constexpr List kNoList = UINT32_MAX;

    explicit ExtentLists(uint32_t lists_per_block) : lists_per_block_(lists_per_block) {}

    // Makes room for rows 0 .. rows-1; never shrinks. Costs nothing when there is room already.
    void reserve_rows(size_t rows);
    size_t rows() const { return links_.size(); }

    // A block of `lists_per_block` empty lists, numbered from the returned one on.
    List take_block();
    // Gives a block back. Its lists must be empty.
    void give_block(List first);

    // What the row counts for in bytes(); 0 until it is set. For a row that is in no list.
    void weigh(ExtentId row, uint32_t bytes);

    void push_back(List list, ExtentId row);  // moves the row when it is in a list already
    void remove(ExtentId row);                // nothing when it is in none

    List list_of(ExtentId row) const { return row < links_.size() ? links_[row].list : kNoList; }
    ExtentId head(List list) const { return ends_[list].head; }  // kNoExtent: empty
    ExtentId tail(List list) const { return ends_[list].tail; }
    ExtentId next(ExtentId row) const { return links_[row].next; }
    ExtentId previous(ExtentId row) const { return links_[row].previous; }
    uint32_t size(List list) const { return ends_[list].size; }
    uint64_t bytes(List list) const { return ends_[list].bytes; }

  private:
    struct Link {
        ExtentId previous = kNoExtent;
        ExtentId next = kNoExtent;
        List list = kNoList;
        uint32_t bytes = 0;
    };
    struct Ends {
        ExtentId head = kNoExtent;
        ExtentId tail = kNoExtent;
        uint32_t size = 0;
        uint64_t bytes = 0;
    };

    uint32_t lists_per_block_;
    std::vector<Link> links_;
    std::vector<Ends> ends_;
    std::vector<List> free_blocks_;
};

}  // namespace tierd
