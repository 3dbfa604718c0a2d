#include "cuda_shim/cuda/ahead.h"

namespace tierd::shim::cuda {

void Ahead::learn(ReservedRange& range, uint32_t row) {
    if (row == last_) return;
    if (last_ != kNone && range.allocation(last_).bytes != 0) range.allocation(last_).next = row;
    last_ = row;
}

uint32_t Ahead::expected(const ReservedRange& range, uint64_t call) const {
    if (last_ == kNone || call < paused_until_) return kNone;
    uint32_t next = range.allocation(last_).next;
    // Rows of freed allocations are used again; who stands there now is as good a guess as any.
    return next != kNone && range.allocation(next).bytes != 0 ? next : kNone;
}

void Ahead::outcome(bool used, uint64_t call) {
    guesses_++;
    right_ += used ? 1 : 0;
    if (guesses_ < kRound) return;
    if (right_ < kEnough) paused_until_ = call + kPauseCalls;
    guesses_ = right_ = 0;
}

}  // namespace tierd::shim::cuda
