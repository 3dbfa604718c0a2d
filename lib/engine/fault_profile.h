// fault_profile.h - where the time of a fault goes, stage by stage, as histograms.
//
// Owns:      one histogram a stage. What a stage is stands in FaultStage.
// Callers:   the engine's thread only; a few additions a fault.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>

namespace tierd {

enum class FaultStage : uint8_t {
    queue,  // from the fault's arrival to the read's start: waiting for memory, a buffer, the engine's thread
    read,   // origin to memory, by way of a bounce buffer where the pages are small
    check,  // that the file is unchanged, and what the policy does with the news
    map,    // UFFDIO_CONTINUE, behind the policy and the mapping of others who wait
    whole,  // arrival to mapped
    minor,  // arrival to mapped, where the bytes were in memory already
};
inline constexpr size_t kFaultStages = 6;
inline constexpr const char* kFaultStageNames[kFaultStages] = {"queue", "read",  "check",
                                                               "map",   "whole", "minor"};

struct StageHistogram {
    static constexpr size_t kBuckets = 24;
    uint64_t count = 0;
    uint64_t sum_ns = 0;
    uint64_t max_ns = 0;
    std::array<uint64_t, kBuckets>
        buckets{};  // bucket i: less than 2^i µs; the last one: all longer ones too

    void add(uint64_t duration_ns) {
        count++;
        sum_ns += duration_ns;
        max_ns = std::max(max_ns, duration_ns);
        buckets[std::min<size_t>(std::bit_width(duration_ns / 1000), kBuckets - 1)]++;
    }
};

class FaultProfile {
  public:
    void add(FaultStage stage, uint64_t duration_ns) { stages_[static_cast<size_t>(stage)].add(duration_ns); }
    const std::array<StageHistogram, kFaultStages>& stages() const { return stages_; }

  private:
    std::array<StageHistogram, kFaultStages> stages_{};
};

}  // namespace tierd
