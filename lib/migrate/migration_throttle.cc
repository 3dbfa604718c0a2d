#include "lib/migrate/migration_throttle.h"

#include <algorithm>
#include <cmath>

#include "lib/base/bytes.h"
#include "lib/base/clock.h"

namespace tierd {

namespace {

constexpr uint64_t kBatchesPerS = 32;
constexpr uint64_t kMostBatchBytes = 8 * kMiB;  // enough to share a call's fixed cost
constexpr uint64_t kStepDivisor = 32;           // of the limit, regained a judgement
constexpr double kLongestRatio = 16;            // one slow read must not outweigh all others
constexpr uint32_t kMemory = 256;               // waits without moves that their mean is of
constexpr uint32_t kKnown = 128;                // of them, before anything is compared with it
constexpr uint32_t kUndecided = 1024;           // ratios after which doubt is as good as none
constexpr uint64_t kStaleNs = 5 * kNsPerSecond;

}  // namespace

void MigrationThrottle::Mean::add(double sample) {
    if (count >= kKnown) sample = std::min(sample, kLongestRatio * value);
    count = std::min(count + 1, kMemory);
    value += (sample - value) / count;
}

MigrationThrottle::MigrationThrottle(uint64_t limit_bytes_per_s)
    : limit_(limit_bytes_per_s), throttle_(limit_bytes_per_s) {}

void MigrationThrottle::set_limit(uint64_t limit_bytes_per_s) {
    limit_ = throttle_ = limit_bytes_per_s;
}

void MigrationThrottle::end_batch(uint64_t now_ns) {
    moving_ = false;
    moved_ns_ = now_ns;
}

void MigrationThrottle::reader_waited(WaitKind kind, uint64_t begun_ns, uint64_t ended_ns) {
    Mean& still = baseline_[static_cast<size_t>(kind)];
    auto waited = static_cast<double>(ended_ns - std::min(begun_ns, ended_ns));
    bool with_moves = moving_ || begun_ns < moved_ns_;
    if (!with_moves) return still.add(waited);
    if (still.count < kKnown || still.value <= 0) return;
    double ratio = std::min(waited / still.value, kLongestRatio);
    if (ratios_ == 0) ratios_since_ns_ = ended_ns;
    ratios_++;
    ratio_sum_ += ratio;
    ratio_squares_ += ratio * ratio;
}

void MigrationThrottle::update(uint64_t now_ns) {
    if (updated_ns_ == 0) updated_ns_ = now_ns;
    uint64_t rounds = (now_ns - updated_ns_) / kUpdateNs;
    if (rounds == 0) return;
    updated_ns_ = now_ns;
    auto forget = [this] {
        ratios_ = 0;
        ratio_sum_ = ratio_squares_ = 0;
    };
    if (ratios_ > 0 && now_ns - ratios_since_ns_ > kStaleNs && ratios_ < kEnough) forget();
    if (ratios_ < kEnough) return faster(rounds);
    double mean = ratio_sum_ / ratios_;
    double variance = std::max(0.0, ratio_squares_ / ratios_ - mean * mean);
    double uncertainty = std::sqrt(variance / ratios_);
    slowdown_ = mean;
    if (mean - 2 * uncertainty > kMaxSlowdown) {
        throttle_ = std::max(throttle_ / 2, limit_ / kSlowest);
        return forget();
    }
    bool undecided = mean > kMaxSlowdown && ratios_ < kUndecided;
    if (undecided) return;
    forget();
    faster(rounds);
}

void MigrationThrottle::faster(uint64_t by_steps) {
    uint64_t step = std::max<uint64_t>(limit_ / kStepDivisor, 1);
    throttle_ = std::min(limit_, throttle_ + step * std::min(by_steps, kStepDivisor));
}

uint64_t MigrationThrottle::batch_bytes() const {
    return throttle_ == 0 ? kMostBatchBytes : std::min(kMostBatchBytes, throttle_ / kBatchesPerS);
}

uint64_t MigrationThrottle::pause_ns(uint64_t bytes, uint64_t took_ns) const {
    if (limit_ == 0) return 0;
    uint64_t slowest = std::max<uint64_t>(limit_ / kSlowestByPause, 1);
    auto longest =
        static_cast<double>(bytes) / static_cast<double>(slowest) * static_cast<double>(kNsPerSecond);
    return std::min(kPauseFactor * took_ns, static_cast<uint64_t>(longest));
}

}  // namespace tierd
