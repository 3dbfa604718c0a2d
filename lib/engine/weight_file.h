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
#include "lib/engine/user_shares.h"
#include "lib/io/origin.h"
#include "lib/model/extent_layout.h"
#include "lib/model/tensor_map.h"
#include "lib/policy/policy.h"
#include "lib/sample/attribution.h"

namespace tierd {

// Of smaller extents too much would stay in small pages.
inline constexpr uint64_t kLeastInFolios = 256 * 1024;

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

    ExtentLayout layout;
    ExtentId first_extent = 0;
    uint32_t extent_count = 0;
    uint32_t slot = 0;     // the policy's number for it
    int reader_file = -1;  // in the reader's table
    int watch = -1;        // inotify
    bool changed = false;
    uint32_t remote_reads = 0;  // under way, where the file system may hang

    std::vector<uint32_t> order;  // a whole pass: learned, then what was never learned, by offset
    bool order_learned = false;
    bool recording = false;  // this run began cold: its first touches are worth keeping
    std::vector<uint32_t> first_touches;
    std::vector<bool> touched;  // in this run, one an extent

    uint32_t clients = 0;  // attached, whether or not they have it mapped
    uint32_t resident_extents = 0;
    uint64_t resident_bytes = 0;  // of memory
    uint32_t busy_extents = 0;    // queued, filling or evicting
    bool pinned = false;
    uint64_t last_touch_ns = 0;
    uint32_t uid = 0;     // of the session that opened it last
    uint64_t cgroup = 0;  // of that session; 0: unknown
    uint32_t layers = 0;
    uint32_t experts = 0;  // greatest number of a layer

    uint64_t missed_ns = 0;                      // of the last touch that waited for the disk
    bool calm = false;                           // no such touch lately; as of this epoch
    bool shows_touches = true;                   // all sessions that map it can be asked to; as of this epoch
    UserShares::Charge charge;                   // the user's who brought it
    std::shared_ptr<const SampledFile> sampled;  // for the sampler; made when it is first mapped

    uint64_t size_bytes() const { return origin.identity.size_bytes; }
    uint64_t memory_bytes() const { return layout.begin(extent_count); }  // when all of it is resident
    uint64_t offset_of(ExtentId id) const { return layout.begin(id - first_extent); }
    // Memory that an extent takes.
    uint32_t memory_of(ExtentId id) const { return static_cast<uint32_t>(layout.bytes(id - first_extent)); }
    // Bytes of the file in it: the last one may be less than full.
    uint32_t bytes_in(ExtentId id) const {
        return static_cast<uint32_t>(std::min<uint64_t>(memory_of(id), size_bytes() - offset_of(id)));
    }
    ExtentId extent_at(uint64_t offset_bytes) const { return first_extent + layout.index_at(offset_bytes); }
    // True when a page of the extent can be taken out of its mappings without taking the whole.
    bool has_small_pages(ExtentId id) const {
        if (arena.backing() == Backing::hugetlb) return false;
        return arena.backing() == Backing::shmem_small || memory_of(id) != layout.extent_bytes();
    }
    // True when most of these are in folios of 32 KiB and more, read in place.
    bool has_folios(ExtentId id) const {
        return arena.makes_folios() && has_small_pages(id) && memory_of(id) >= kLeastInFolios;
    }
    // True when the extent's bytes go through a buffer (bounce_buffers.h).
    bool bounces(ExtentId id) const { return has_small_pages(id) && !has_folios(id); }
};

// As policies are told of it.
inline PolicyModel as_policy_model(const WeightFile& file) {
    return {.model = file.slot,
            .first_extent = file.first_extent,
            .extent_count = file.extent_count,
            .extent_bytes = file.layout.extent_bytes(),
            .file_bytes = file.size_bytes(),
            .order = file.order,
            .order_learned = file.order_learned,
            .name = file.name,
            .uid = file.uid,
            .cgroup = file.cgroup};
}

}  // namespace tierd
