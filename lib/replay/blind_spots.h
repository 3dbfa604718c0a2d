// blind_spots.h - fills in the touches of one model that a recording could not see, where its passes show them.
//
// Owns:      which extents are blind: mapped, so that their touches are no faults and no events. An extent is seen
//            again when it is evicted or armed.
// Invariant: only extents that every pass touches are filled in, never experts: which of those a pass touches is
//            unknown.
// Callers:   the builder of a workload, one thread, with the model's events in their order.
// Fails:     by why_blind(): the recording can't tell what another policy would read.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lib/trace/trace.h"

namespace tierd {

class BlindSpots {
  public:
    // `order`: the extents in the order of a pass.
    BlindSpots(const TraceModel& facts, const std::vector<uint32_t>& order);

    // The extent was mapped without a touch; its next touch will be seen again.
    void on_mapped(uint32_t index) { blind_[index] = true; }
    void on_visible(uint32_t index) { blind_[index] = false; }
    // A touch was seen. Appends the blind extents that the pass has touched since the one seen before it.
    void on_touch(uint32_t index, uint64_t time_ns, std::vector<uint32_t>& unseen);
    // The model was closed, or the recording ended.
    void on_end(uint64_t time_ns);

    // Why the unseen touches can't be told; empty: they were filled in, or there were none.
    std::string why_blind() const;

  private:
    void fill(size_t begin, size_t end, std::vector<uint32_t>& unseen);
    void begin_pass();

    std::vector<uint32_t> order_;
    std::vector<uint32_t> position_;  // of an extent in order_
    std::vector<bool> is_expert_;
    std::vector<bool> blind_;
    std::vector<bool> touched_;  // seen in this pass
    size_t next_ = 0;            // position behind the last touch of the pass
    uint64_t seen_in_pass_ = 0;
    uint64_t seen_ = 0;        // touches of other extents than experts
    uint64_t disordered_ = 0;  // of these, before the one seen last, and not of a new pass
    uint64_t known_ = 0;       // seen and filled in, experts too
    uint64_t unknown_ = 0;     // experts that were blind while a pass went over them
    uint64_t first_ns_ = 0, last_ns_ = 0;
    uint64_t silent_ns_ = 0;  // at the end, without a touch, while a pass would be seen nowhere
};

}  // namespace tierd
