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
#include <memory>
#include <string>
#include <vector>

#include "lib/arena/arena.h"
#include "lib/engine/user_shares.h"
#include "lib/io/origin.h"
#include "lib/model/tensor_map.h"
#include "lib/placement/placed_file.h"
#include "lib/sample/attribution.h"

namespace tierd {

struct WeightFile : PlacedFile, std::enable_shared_from_this<WeightFile> {
    WeightFile(Origin origin_taken, Arena arena_taken)
        : origin(std::move(origin_taken)), arena(std::move(arena_taken)) {
        backing = arena.backing();
        makes_folios = arena.makes_folios();
        file_bytes = origin.identity.size_bytes;
        slow_origin = !origin.local_disk;
    }

    uint64_t number = 0;  // never reused
    std::string path;     // as the first client called it; for display only
    Origin origin;
    Arena arena;
    TensorMap map;
    std::string header_error;
    std::vector<ExtentLabel> labels;  // one an extent; dropped once the table has them
    int reader_file = -1;             // in the reader's table
    int watch = -1;                   // inotify

    uint64_t missed_ns = 0;                      // of the last touch that waited for the disk
    bool calm = false;                           // no such touch lately; as of this epoch
    bool arms_hints = true;                      // all sessions that map it can be asked to; as of this epoch
    UserShares::Charge charge;                   // the user's who brought it
    std::shared_ptr<const SampledFile> sampled;  // for the sampler; made when it is first mapped

    uint64_t size_bytes() const { return file_bytes; }
};

// The served file behind one that placement names: all of them are, in the daemon.
inline WeightFile& served(PlacedFile& file) {
    return static_cast<WeightFile&>(file);
}

}  // namespace tierd
