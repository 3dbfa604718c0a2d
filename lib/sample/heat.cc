#include "lib/sample/heat.h"

#include <algorithm>
#include <cmath>

namespace tierd {

namespace {

constexpr double kNsPerS = 1e9;
constexpr double kHeatSpanS =
    10.0 / 0.6931471805599453;            // kHeatHalfLifeNs / ln 2: what the decayed count spans
constexpr float kLeastExposureS = 1e-6F;  // a clock's resolution: rates stay finite

float half_lives(uint64_t age_ns, uint64_t half_life_ns) {
    return std::exp2(-static_cast<float>(age_ns) / static_cast<float>(half_life_ns));
}

}  // namespace

void HeatEstimator::reserve(uint32_t count) {
    if (evidence_.size() < count) evidence_.resize(std::max<size_t>(count, evidence_.size() * 2));
}

void HeatEstimator::forget(uint32_t first, uint32_t count) {
    for (size_t i = first; i < std::min<size_t>(evidence_.size(), uint64_t{first} + count); i++)
        evidence_[i] = {};
}

void HeatEstimator::decay(Evidence& evidence, uint64_t now_ns) {
    constexpr uint64_t kStepNs = 100'000'000;  // finer steps would only lose digits
    if (evidence.updated_ns == 0) evidence.updated_ns = now_ns;
    if (now_ns < evidence.updated_ns + kStepNs) return;
    uint64_t age_ns = now_ns - evidence.updated_ns;
    float memory = half_lives(age_ns, kMemoryNs);
    float counts = half_lives(age_ns, kHeatHalfLifeNs);
    evidence.touches *= memory;
    evidence.exposure_s *= memory;
    evidence.counted *= counts;
    evidence.counted_samples *= counts;
    evidence.node_lead *= counts;
    evidence.updated_ns = now_ns;
}

void HeatEstimator::arm(uint32_t extent, uint64_t now_ns, bool hinted) {
    reserve(extent + 1);
    Evidence& evidence = evidence_[extent];
    if (evidence.armed_ns == 0) evidence.armed_ns = now_ns;
    evidence.hinted = hinted;
}

bool HeatEstimator::hinted(uint32_t extent) const {
    return armed(extent) && evidence_[extent].hinted;
}

bool HeatEstimator::armed(uint32_t extent) const {
    return extent < evidence_.size() && evidence_[extent].armed_ns != 0;
}

void HeatEstimator::disarm(uint32_t extent, uint64_t now_ns) {
    if (!armed(extent)) return;
    Evidence& evidence = evidence_[extent];
    decay(evidence, now_ns);
    uint64_t waited_ns = now_ns - std::min(now_ns, evidence.armed_ns);
    evidence.exposure_s +=
        std::max(static_cast<float>(static_cast<double>(waited_ns) / kNsPerS), kLeastExposureS);
    evidence.armed_ns = 0;
}

bool HeatEstimator::touched(uint32_t extent, uint64_t now_ns) {
    if (!armed(extent)) return false;
    disarm(extent, now_ns);
    evidence_[extent].touches += 1;
    return true;
}

void HeatEstimator::count(uint32_t extent, double accesses, uint64_t now_ns) {
    reserve(extent + 1);
    Evidence& evidence = evidence_[extent];
    decay(evidence, now_ns);
    evidence.counted += static_cast<float>(accesses);
    evidence.counted_samples += 1;
}

// A majority vote: a thread with more accesses than all others together wins, in any order of accesses.
void HeatEstimator::read_from(uint32_t extent, int node, double accesses, uint64_t now_ns) {
    if (node < 0 || node > INT16_MAX) return;
    reserve(extent + 1);
    Evidence& evidence = evidence_[extent];
    decay(evidence, now_ns);
    auto more = static_cast<float>(accesses);
    if (evidence.node == node) {
        evidence.node_lead += more;
        return;
    }
    evidence.node_lead -= more;
    if (evidence.node_lead > 0) return;
    evidence.node_lead = -evidence.node_lead;
    evidence.node = static_cast<int16_t>(node);
}

int HeatEstimator::reader_node(uint32_t extent) const {
    if (extent >= evidence_.size() || evidence_[extent].node_lead <= 0) return kNoNode;
    return evidence_[extent].node;
}

HeatEstimator::Estimate HeatEstimator::estimate(uint32_t extent, uint64_t now_ns) const {
    if (extent >= evidence_.size()) return {};
    Evidence evidence = evidence_[extent];
    decay(evidence, now_ns);
    double heat = evidence.counted, samples = evidence.counted_samples;
    if (evidence.touches >= evidence.counted_samples) {
        // The exposure that is still open counts too: what was not touched since is colder than it seemed.
        double open_s = 0;
        if (evidence.armed_ns != 0)
            open_s = static_cast<double>(now_ns - std::min(now_ns, evidence.armed_ns)) / kNsPerS;
        double exposure_s = evidence.exposure_s + open_s;
        samples = evidence.touches;
        heat = exposure_s > 0 ? evidence.touches / exposure_s * kHeatSpanS : 0;
    }
    // An observation counts until most of it is forgotten.
    return {.heat = static_cast<uint32_t>(std::min(heat * 65536, double{UINT32_MAX})),
            .samples = static_cast<uint16_t>(std::min(std::ceil(samples - 0.25), double{UINT16_MAX}))};
}

HeatEstimator::Rate HeatEstimator::rate(uint32_t extent) const {
    Evidence evidence = extent < evidence_.size() ? evidence_[extent] : Evidence{};
    return {.per_s = (evidence.touches + 0.5F) / (evidence.exposure_s + 0.1F),
            .observations = evidence.touches};
}

}  // namespace tierd
