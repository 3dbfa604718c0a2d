// backend.h - what placement asks of the machine beneath it: the daemon's kernel, or a replay's model.
//
// Invariant: nothing here calls back. What was begun ends later, by on_read(), on_released() and on_moved() of Placement:
//            once for every read that began, every release and every move.
// Callers:   the thread that owns the Placement. Nothing here waits for a disk or for another process.
#pragma once

#include <cstdint>
#include <vector>

#include "lib/placement/placed_file.h"

namespace tierd {

enum class ReadStart : uint8_t {
    begun,
    no_huge_page,  // the hugetlb pool has none left
    no_buffer,     // all bounce buffers are taken
    ring_full,     // nothing was begun, but memory may have been made: it has to be released
};

struct MoveOrder {
    ExtentId extent = kNoExtent;
    std::vector<int> to =
        {};  // nodes, any of them; the first is preferred. Empty: a tier without nodes of its own
    std::vector<int> from = {};  // where the pages go back to when not all of them could be moved
    uint64_t modelled_ns = 0;    // without nodes: how long it is to take
    uint32_t priority = 0;       // greater goes first
};

// How a move ended.
struct MoveEnd {
    ExtentId extent = kNoExtent;
    enum class Outcome : uint8_t { moved, refused, split, cancelled } outcome = Outcome::refused;
    int error = 0;  // errno of a refusal; ENOENT: the memory was lost
};

class Backend {
  public:
    virtual ~Backend() = default;

    virtual uint64_t now_ns() = 0;  // monotonic, and never the same twice in the daemon

    // Takes what the read needs and begins it; the extent's memory has been granted. `node`: where fresh pages are to come
    // from; -1: from wherever the kernel takes them by itself.
    virtual ReadStart read(PlacedFile& file, ExtentId id, int node) = 0;
    // Hands the reads that have begun to the kernel.
    virtual void submit_reads() = 0;
    // Unmaps the extent from every session and returns its memory. `was_published`: sessions may have it mapped.
    virtual void release(PlacedFile& file, ExtentId id, bool was_published) = 0;
    virtual void move(PlacedFile& file, MoveOrder order) = 0;
    // A move that has not begun is dropped; either way it ends in on_moved().
    virtual void cancel_move(ExtentId id) = 0;
    // Takes a page of the extent out of every mapping, so that the next touch is seen. False: the extent is no longer whole.
    virtual bool rearm(PlacedFile& file, ExtentId id, int node) = 0;
};

}  // namespace tierd
