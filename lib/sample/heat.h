// heat.h - estimates from observed touches how often each extent is touched, and how certain that estimate is.
//
// Owns:      the evidence for each extent: touches, and the time in which one would have been seen.
// Invariant: evidence loses half its weight every kMemoryNs, counts every kHeatHalfLifeNs. So old evidence is
//            forgotten, and `samples` falls with it.
// Callers:   the engine's thread only.
// Fails:     never; numbers saturate.
//
// There are two kinds of evidence:
//   armed    an extent that is mapped nowhere (rearmed, hinted, evicted) shows its next touch as a fault. The time
//            from arming to the touch is exponential for random touches. So the rate is touches / time armed, also if
//            the extent is disarmed without a touch.
//   counted  samples of the processor stand for a number of accesses each, and are seen all the time.
// Heat is the count that a counter with a half life of kHeatHalfLifeNs would have at that rate. So both kinds mean the
// same: touches in about the last 14 seconds.
#pragma once

#include <cstdint>
#include <vector>

#include "lib/sample/cpu_nodes.h"

namespace tierd {

inline constexpr uint64_t kHeatHalfLifeNs = 10'000'000'000;

class HeatEstimator {
  public:
    static constexpr uint64_t kMemoryNs = 60'000'000'000;

    struct Estimate {
        uint32_t heat = 0;     // 16.16 fixed point
        uint16_t samples = 0;  // observations behind it, decayed; 0: none
    };

    // Room for extents below `count`; what is there stays.
    void reserve(uint32_t count);
    void forget(uint32_t first, uint32_t count);

    // From now on the next touch is seen. `hinted`: the extent stays in memory, only a page of its mapping was taken.
    void arm(uint32_t extent, uint64_t now_ns, bool hinted);
    bool armed(uint32_t extent) const;
    bool hinted(uint32_t extent) const;  // exposed, and that by a hint
    // The touch came. True when the extent was exposed.
    bool touched(uint32_t extent, uint64_t now_ns);
    // No touch will be seen any more: it was mapped without one.
    void disarm(uint32_t extent, uint64_t now_ns);
    // A source that counts saw `accesses`, in units of the whole extent, in one sample.
    void count(uint32_t extent, double accesses, uint64_t now_ns);
    // Of what was counted or touched, so much came from a thread on that memory node.
    void read_from(uint32_t extent, int node, double accesses, uint64_t now_ns);
    // The node whose threads read the extent most, lately: where a copy of it would be near. kNoNode where nothing is
    // known, or no node reads it more than all others together. Hints know it from touches, the processor's samples
    // from the CPU.
    int reader_node(uint32_t extent) const;

    Estimate estimate(uint32_t extent, uint64_t now_ns) const;
    // Touches a second and observations, of the exposed kind and as of the last; for choosing. An extent that nothing
    // is known of seems to be touched five times a second.
    struct Rate {
        float per_s = 0;
        float observations = 0;
    };
    Rate rate(uint32_t extent) const;

  private:
    struct Evidence {
        uint64_t armed_ns = 0;  // since then; 0: not exposed
        uint64_t updated_ns = 0;
        float touches = 0;
        float exposure_s = 0;
        float counted = 0;
        float counted_samples = 0;
        float node_lead = 0;  // accesses from `node`, less those from others
        int16_t node = kNoNode;
        bool hinted = false;
    };
    static void decay(Evidence& evidence, uint64_t now_ns);

    std::vector<Evidence> evidence_;
};

}  // namespace tierd
