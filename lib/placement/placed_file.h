// placed_file.h - one weight file as placement sees it: which rows are its own, what they hold, and how much of it is in
// memory.
//
// Owns:      the file's account of extents. Not the bytes, not the descriptors: the engine's WeightFile adds those, a
//            replay needs none.
// Invariant: resident_extents, resident_bytes and busy_extents equal what the file's rows say; only Extents::set_state()
//            writes them. Once `changed`, nothing is filled again.
// Callers:   the thread that owns the Placement.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "lib/arena/backing.h"
#include "lib/model/extent_layout.h"
#include "lib/policy/policy.h"

namespace tierd {

// Smaller extents are not worth folios: too much of them would stay in small pages.
inline constexpr uint64_t kLeastInFolios = 256 * 1024;

// The order in which a run that began cold touches the file for the first time: the next run's read-ahead.
class FirstTouches {
  public:
    // `active`: the run begins cold, so its order is worth keeping.
    void restart(bool active, uint32_t extents) {
        active_ = active;
        order_.clear();
        seen_.assign(extents, false);
    }
    void add(uint32_t index) {
        if (!active_ || seen_[index]) return;
        seen_[index] = true;
        order_.push_back(index);
    }
    bool active() const { return active_; }
    bool empty() const { return order_.empty(); }
    std::vector<uint32_t> take() {
        active_ = false;
        return std::exchange(order_, {});
    }

  private:
    bool active_ = false;
    std::vector<uint32_t> order_;
    std::vector<bool> seen_;  // one an extent
};

struct PlacedFile {
    std::string name;  // model_name(path)
    ExtentLayout layout;
    Backing backing = Backing::shmem_small;
    bool makes_folios = false;  // the arena does, for extents of small pages
    uint64_t file_bytes = 0;
    bool slow_origin = false;  // its file system may hang: a network's, or FUSE

    uint32_t slot = 0;  // the policy's number for it; reused
    ExtentId first_extent = 0;
    uint32_t extent_count = 0;
    uint32_t layers = 0;
    uint32_t experts = 0;         // greatest number of a layer
    std::vector<uint32_t> order;  // a whole pass: learned, then what was never learned, by offset
    bool order_learned = false;
    FirstTouches first_touches;

    bool changed = false;
    bool pinned = false;
    uint32_t clients = 0;  // attached, whether or not they have it mapped
    uint32_t uid = 0;      // of the session that opened it last
    uint64_t cgroup = 0;   // of that session; 0: unknown
    uint64_t last_touch_ns = 0;
    uint32_t resident_extents = 0;
    uint64_t resident_bytes = 0;  // of memory
    uint32_t busy_extents = 0;    // queued, filling or evicting
    uint32_t slow_reads = 0;      // under way, where the origin is slow

    uint64_t memory_bytes() const { return layout.begin(extent_count); }  // when all of it is resident
    bool contains(ExtentId id) const { return id >= first_extent && id - first_extent < extent_count; }
    uint32_t index_of(ExtentId id) const { return id - first_extent; }
    uint64_t offset_of(ExtentId id) const { return layout.begin(index_of(id)); }
    // Memory that an extent takes.
    uint32_t memory_of(ExtentId id) const { return static_cast<uint32_t>(layout.bytes(index_of(id))); }
    // Bytes of the file in it: the last one may be less than full.
    uint32_t bytes_in(ExtentId id) const {
        return static_cast<uint32_t>(std::min<uint64_t>(memory_of(id), file_bytes - offset_of(id)));
    }
    ExtentId extent_at(uint64_t offset_bytes) const { return first_extent + layout.index_at(offset_bytes); }
    bool is_idle() const { return clients == 0 && resident_extents == 0 && busy_extents == 0; }

    // True when a page of the extent can be taken out of its mappings without taking the whole.
    bool has_small_pages(ExtentId id) const {
        if (backing == Backing::hugetlb) return false;
        return backing == Backing::shmem_small || memory_of(id) != layout.extent_bytes();
    }
    // True when most of these are in folios of 32 KiB and more, read in place.
    bool has_folios(ExtentId id) const {
        return makes_folios && has_small_pages(id) && memory_of(id) >= kLeastInFolios;
    }
    // True when the extent's bytes go through a buffer (bounce_buffers.h).
    bool bounces(ExtentId id) const { return has_small_pages(id) && !has_folios(id); }
};

// The file in the policy's words.
inline PolicyModel as_policy_model(const PlacedFile& file) {
    return {.model = file.slot,
            .first_extent = file.first_extent,
            .extent_count = file.extent_count,
            .extent_bytes = file.layout.extent_bytes(),
            .file_bytes = file.file_bytes,
            .order = file.order,
            .order_learned = file.order_learned,
            .name = file.name,
            .uid = file.uid,
            .cgroup = file.cgroup};
}

}  // namespace tierd
