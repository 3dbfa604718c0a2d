// readahead.h - what will be touched next: along the order of a pass, and the other slices of a touched expert.
//
// Owns:      for each open model its order, the places where threads are reading (streams), the index of its experts,
//            and how far ahead reading pays (depth).
// Invariant: one decision names at most kMaxReadAhead extents and walks at most a few hundred rows of the table. A
//            model never has more extents requested along the order and not yet touched than the caller's capacity,
//            rounded up to one.
// Callers:   a policy, the engine's thread. Never blocks.
// Fails:     never; a model or row that was not opened has no read-ahead.
//
// A touch does not identify its thread: several threads and sessions read at several places. So each touch is matched
// to the stream that it continues. It continues a stream if hardly any absent extent lies between; resident extents
// give no signal. How often touches continue a stream is the score that distinguishes dense passes from random
// access.
#pragma once

#include <array>
#include <cstdint>
#include <unordered_map>
#include <utility>
#include <vector>

#include "lib/policy/policy.h"

namespace tierd {

inline constexpr uint32_t kMaxReadAhead = 64;  // entries in one decision

// What the policy allows one model now.
struct ReadAheadLimits {
    uint32_t capacity = 0;     // extents along the order that may be asked for and not yet touched
    bool along_order = false;  // false: the order means nothing here (random access)
    uint32_t siblings = 0;     // slices of the same expert that may be asked for in one decision
};

class ReadAhead {
  public:
    void model_open(const PolicyView& view, const PolicyModel& model);
    void model_close(uint32_t model);
    // Its last session has gone: nothing is read ahead until it is touched again.
    void last_session(uint32_t model);

    // A touch was seen. `was_ahead`: it was the first of an extent that had been read ahead. Appends to
    // `wanted`.
    void touched(const PolicyView& view, ExtentId extent, Touch touch, bool was_ahead,
                 const ReadAheadLimits& limits, std::vector<ExtentId>& wanted);
    // An extent of the model was read ahead and evicted before its first touch.
    void wasted(uint32_t model);
    // Goes on along the order without a touch, and asks again for what was asked for and forgotten. Appends
    // to `wanted`.
    void go_on(const PolicyView& view, uint32_t model, const ReadAheadLimits& limits,
               std::vector<ExtentId>& wanted);

    // How regularly the model is read: of the last touches about this share continued a stream.
    struct Score {
        uint32_t in_order_256ths = 0;  // 0 .. 256
        uint32_t samples = 0;          // touches judged so far, saturating
    };
    Score score(uint32_t model) const;

  private:
    static constexpr size_t kStreams = 8;

    // One reader's place in the order.
    struct Stream {
        uint32_t last = 0;            // position of its last touch
        uint32_t next = 0;            // first position not yet considered for reading ahead
        uint32_t run = 0;             // touches that continued it
        uint32_t used = 0;            // the model's clock at its last touch; 0: a free slot
        std::vector<uint32_t> asked;  // positions asked for, not yet touched, in the order of asking
    };

    struct Reader {
        ExtentId first_extent = 0;
        uint32_t known = 0;  // positions 0 .. known-1 make up a pass; what is behind is never read ahead
        std::vector<bool> has_place;                         // by index: not experts, nor scraps between them
        std::vector<uint32_t> order;                         // position -> index, of those that have a place
        std::vector<uint32_t> position;                      // index -> position
        std::vector<std::pair<uint32_t, uint32_t>> experts;  // (layer << 16 | expert, index), ascending
        std::array<Stream, kStreams> streams;
        uint32_t clock = 0;  // touches seen
        uint32_t depth = 0;
        Score score;
        bool order_learned = false;
        std::vector<uint32_t> first_touches;     // while learning: indices in the order of first touches
        std::vector<uint32_t> first_touch_rank;  // index -> place in first_touches; empty: not learning
    };

    Reader* find(const PolicyView& view, ExtentId extent);
    static void set_order(Reader& reader, const std::vector<uint32_t>& front);
    static void learn(Reader& reader, uint32_t index);
    static void admit_to_pass(Reader& reader, uint32_t index);
    static Stream* continued_stream(const PolicyView& view, Reader& reader, uint32_t position);
    static bool continues(const PolicyView& view, const Reader& reader, const Stream& stream,
                          uint32_t position);
    static Stream& new_stream(Reader& reader, uint32_t position);
    static void advance(Reader& reader, Stream& stream, uint32_t position);
    static void judge(Reader& reader, bool in_order);
    static bool trusted(const Reader& reader, const Stream& stream);
    static void extend(const PolicyView& view, Reader& reader, Stream& stream, uint32_t capacity,
                       std::vector<ExtentId>& wanted);
    static void ask_again(const PolicyView& view, const Reader& reader, const Stream& stream, bool stalled,
                          std::vector<ExtentId>& wanted);
    static void ask_siblings(const PolicyView& view, const Reader& reader, ExtentId extent, uint32_t most,
                             std::vector<ExtentId>& wanted);

    std::unordered_map<uint32_t, Reader> readers_;
};

}  // namespace tierd
