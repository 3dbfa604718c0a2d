// ahead.h - which allocation comes next, as learned from the order of earlier launches, and whether guessing pays.
//
// Engines use their weights in the same order again and again. Each allocation remembers who followed it last time
// (Allocation::next), so the next one can be on its way to the GPU while this one is computed with. Guesses are held
// against what came: where too many were wrong, nothing is guessed for a while.
//
// Owns:      who was used last, and the score.
// Invariant: a wrong guess costs a copy, never a byte.
// Callers:   with the GPU's lock held.
#pragma once

#include "cuda_shim/cuda/reserved_range.h"

namespace tierd::shim::cuda {

class Ahead {
  public:
    static constexpr uint32_t kRound = 16;        // guesses between two looks at the score
    static constexpr uint32_t kEnough = 12;       // right ones among them
    static constexpr uint64_t kPauseCalls = 256;  // without guesses, where there were fewer

    // `row` is used now, and was not a moment ago.
    void learn(ReservedRange& range, uint32_t row);
    // Who is expected after the last one; kNone: nobody, or guessing does not pay now.
    uint32_t expected(const ReservedRange& range, uint64_t call) const;
    // What was guessed was used; or it was taken away before it was.
    void outcome(bool used, uint64_t call);

  private:
    uint32_t last_ = kNone;
    uint32_t guesses_ = 0;
    uint32_t right_ = 0;
    uint64_t paused_until_ = 0;
};

}  // namespace tierd::shim::cuda
