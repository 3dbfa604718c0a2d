// weight_file.h - one weight file that tierd serves: its origin, its arena, what its header says, and who
// uses it.
//
// Owns:      all of that, for as long as a client may map it or an extent of it is in memory.
// Invariant: `identity` of the origin is what every byte in the arena belongs to; once `changed`, nothing is
//            filled again.
// Callers:   the engine's thread; `arena` also by the evictor, which holds the file by shared_ptr.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "lib/arena/arena.h"
#include "lib/io/origin.h"
#include "lib/model/tensor_map.h"
#include "lib/policy/policy.h"

namespace tierd {

struct WeightFile {
    WeightFile(Origin origin_taken, Arena arena_taken)
        : origin(std::move(origin_taken)), arena(std::move(arena_taken)) {}

    uint64_t number = 0;  // never reused
    std::string path;     // as the first client called it; for display only
    std::string name;     // model_name(path)
    Origin origin;
    Arena arena;
    TensorMap map;
    std::string header_error;
    std::vector<ExtentLabel> labels;  // one an extent; dropped once the table has them

    uint64_t extent_bytes = 0;
    ExtentId first_extent = 0;
    uint32_t extent_count = 0;
    uint32_t slot = 0;     // the policy's number for it
    int reader_file = -1;  // in the reader's table
    int watch = -1;        // inotify
    bool changed = false;

    std::vector<uint32_t> order;  // a whole pass: learned, then what was never learned, by offset
    bool order_learned = false;
    bool recording = false;  // this run began cold: its first touches are worth keeping
    std::vector<uint32_t> first_touches;
    std::vector<bool> touched;  // in this run, one an extent

    uint32_t clients = 0;  // attached, whether or not they have it mapped
    uint32_t resident_extents = 0;
    uint32_t busy_extents = 0;  // queued, filling or evicting
    uint64_t pinned_extents = 0;

    uint64_t size_bytes() const { return origin.identity.size_bytes; }
    uint64_t offset_of(ExtentId id) const { return uint64_t{id - first_extent} * extent_bytes; }
    // Bytes of the file in an extent: all but the last are full.
    uint32_t bytes_in(ExtentId id) const {
        return static_cast<uint32_t>(std::min(extent_bytes, size_bytes() - offset_of(id)));
    }
    ExtentId extent_at(uint64_t offset_bytes) const {
        return first_extent + static_cast<uint32_t>(offset_bytes / extent_bytes);
    }
};

}  // namespace tierd
