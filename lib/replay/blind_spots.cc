#include "lib/replay/blind_spots.h"

#include <algorithm>

namespace tierd {

namespace {

// Of touches, the part that may be out of order or unknown: what is predicted is to be right within 15 %.
constexpr uint64_t kMostDisorderPercent = 25;
constexpr uint64_t kMostUnknownPercent = 10;
// Where a pass would be seen nowhere, silence at the end longer than this part of the time before it may hide some.
constexpr uint64_t kSilentPart = 100;

}  // namespace

BlindSpots::BlindSpots(const TraceModel& facts, const std::vector<uint32_t>& order)
    : order_(order), position_(order.size()), blind_(order.size()), touched_(order.size()) {
    for (uint32_t place = 0; place < order_.size(); place++) position_[order_[place]] = place;
    for (const TraceRun& run : facts.runs)
        is_expert_.insert(is_expert_.end(), run.count, run.expert != TIERD_NO_EXPERT);
}

void BlindSpots::on_touch(uint32_t index, uint64_t time_ns, std::vector<uint32_t>& unseen) {
    if (known_ == 0) first_ns_ = time_ns;
    last_ns_ = time_ns;
    known_++;
    blind_[index] = true;
    if (is_expert_[index]) return;
    const size_t place = position_[index];
    // An extent that was evicted while it was read is touched again, and the pass goes on.
    const bool again = place + 1 == next_ && touched_[index] && seen_in_pass_ > 1;
    const bool behind = place < next_ && !again;
    const bool new_pass = behind && (touched_[index] || next_ - place > order_.size() / 2);
    if (new_pass) {
        fill(next_, order_.size(), unseen);
        begin_pass();
    }
    if (behind && !new_pass) disordered_++;
    if (place >= next_) {
        fill(next_, place, unseen);
        next_ = place + 1;
    }
    touched_[index] = true;
    seen_++;
    seen_in_pass_++;
    known_ += unseen.size();
}

void BlindSpots::fill(size_t begin, size_t end, std::vector<uint32_t>& unseen) {
    for (size_t place = begin; place < end; place++) {
        const uint32_t index = order_[place];
        if (!blind_[index] || touched_[index]) continue;
        if (is_expert_[index])
            unknown_++;
        else
            unseen.push_back(index);
        touched_[index] = true;
    }
}

void BlindSpots::begin_pass() {
    touched_.assign(touched_.size(), false);
    next_ = 0;
    seen_in_pass_ = 0;
}

void BlindSpots::on_end(uint64_t time_ns) {
    for (size_t index = 0; index < blind_.size(); index++)
        if (!blind_[index] && !is_expert_[index]) return;  // another pass would have been seen there
    silent_ns_ = time_ns - std::min(time_ns, last_ns_);
}

std::string BlindSpots::why_blind() const {
    if (std::ranges::find(blind_, true) == blind_.end()) return {};
    if (silent_ns_ > (last_ns_ - first_ns_) / kSilentPart)
        return "it was mapped and no touch was seen for much of the time: all of it fitted, or nobody used "
               "it";
    if (disordered_ * 100 > seen_ * kMostDisorderPercent)
        return "its touches come in no order that shows its passes";
    if (unknown_ * 100 > known_ * kMostUnknownPercent)
        return "which of its mapped experts were touched was not seen";
    return {};
}

}  // namespace tierd
