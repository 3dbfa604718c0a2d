#include "lib/policy/expert_predictor.h"

#include <algorithm>

namespace tierd {
namespace {

constexpr uint32_t kMostRows = 1u << 16;  // of 32 bytes each
constexpr uint32_t kFewPart = 4;       // a layer that takes more of its experts than this part has no choice
constexpr uint8_t kLeastSeen = 4;      // before a follower is expected
constexpr uint8_t kMostSeen = 32;      // then both counts are halved: the old is forgotten
constexpr uint32_t kScoreWeight = 64;  // guesses that the score follows
constexpr uint32_t kBegin = 128;       // score from which it guesses ...
constexpr uint32_t kEnd = 102;         // ... and below which it stops
constexpr size_t kMostSpeculative = 32;  // extents in one answer

uint32_t key_of(uint32_t layer, uint16_t expert) {
    return layer << 16 | expert;
}

bool contains(const std::vector<uint16_t>& experts, uint16_t expert) {
    return std::ranges::find(experts, expert) != experts.end();
}

}  // namespace

template <class Visit>
void ExpertPredictor::each_slice(const Model& model, uint32_t layer, uint16_t expert, Visit visit) {
    auto it = std::ranges::lower_bound(model.slices, std::pair{key_of(layer, expert), 0u});
    for (; it != model.slices.end() && it->first == key_of(layer, expert); ++it)
        visit(model.first_extent + it->second);
}

void ExpertPredictor::model_open(const PolicyView& view, const PolicyModel& opened) {
    model_close(opened.model);
    Model model;
    model.first_extent = opened.first_extent;
    for (uint32_t index = 0; index < opened.extent_count; ++index) {
        if (opened.first_extent + index >= view.extents.size()) break;
        const tierd_extent& row = view.extents[opened.first_extent + index];
        if (row.role != TIERD_ROLE_EXPERT || row.expert == TIERD_NO_EXPERT || row.layer == TIERD_NO_LAYER)
            continue;
        model.layers = std::max(model.layers, row.layer + 1u);
        model.experts = std::max(model.experts, row.expert + 1u);
        model.slices.emplace_back(key_of(row.layer, row.expert), index);
    }
    if (model.slices.empty() || uint64_t{model.layers} * model.experts > kMostRows) return;
    std::ranges::sort(model.slices);
    model.successors.resize(size_t{model.layers} * model.experts);
    models_.emplace(opened.model, std::move(model));
}

void ExpertPredictor::model_close(uint32_t model) {
    models_.erase(model);
}

void ExpertPredictor::touched(const PolicyView& view, ExtentId extent, std::vector<ExtentId>& speculative) {
    const tierd_extent& row = view.extents[extent];
    auto found = models_.find(row.model);
    if (found == models_.end() || row.role != TIERD_ROLE_EXPERT) return;
    Model& model = found->second;
    if (row.layer >= model.layers || row.expert >= model.experts) return;
    if (row.layer != model.now.layer) begin_layer(view, model, row.layer);
    if (contains(model.now.experts, row.expert)) return;
    model.now.experts.push_back(row.expert);
    if (row.layer + 1u < model.layers) expect(view, model, row.expert, speculative);
}

void ExpertPredictor::begin_layer(const PolicyView& view, Model& model, uint32_t layer) {
    judge(model);
    learn(view, model);
    bool follows = layer == model.now.layer + 1;
    model.before = std::move(model.now);
    model.now = {layer, {}, follows ? std::move(model.expected) : std::vector<uint16_t>{}};
    model.expected.clear();
}

// The layer that ends shows which guesses were right.
void ExpertPredictor::judge(Model& model) {
    Score& score = model.score;
    for (uint16_t expert : model.now.predicted) {
        score.samples = std::min(score.samples + 1, 1u << 20);
        uint32_t weight = std::min(score.samples, kScoreWeight);
        uint32_t right = contains(model.now.experts, expert) ? 256 : 0;
        score.right_256ths = (score.right_256ths * (weight - 1) + right + weight / 2) / weight;
    }
    uint32_t least = score.predicting ? kEnd : kBegin;
    score.predicting = score.samples >= kScoreWeight && score.right_256ths >= least;
}

void ExpertPredictor::learn(const PolicyView& view, Model& model) {
    const Step &from = model.before, &to = model.now;
    uint32_t few = std::max(model.experts / kFewPart, 1u);
    bool follows = from.layer != TIERD_NO_LAYER && to.layer == from.layer + 1;
    if (!follows || from.experts.size() > few || to.experts.size() > few) return;
    for (uint16_t expert : from.experts)
        count(view, model, model.successors[size_t{from.layer} * model.experts + expert]);
}

void ExpertPredictor::count(const PolicyView& view, Model& model, std::array<Successor, kSuccessors>& row) {
    for (Successor& successor : row) {
        if (successor.expert == TIERD_NO_EXPERT) continue;
        bool came = contains(model.now.experts, successor.expert);
        if (!came && is_mapped(view, model, model.now.layer, successor.expert)) continue;
        successor.came = static_cast<uint8_t>(successor.came + came);
        if (++successor.seen < kMostSeen) continue;
        successor.came /= 2;
        successor.seen /= 2;
    }
    for (uint16_t expert : model.now.experts)
        if (std::ranges::find(row, expert, &Successor::expert) == row.end()) admit(row, expert);
}

// Replaces the successor with the lowest rate; a new one starts with one hit of one.
void ExpertPredictor::admit(std::array<Successor, kSuccessors>& row, uint16_t expert) {
    auto weight = [](const Successor& f) { return f.seen == 0 ? 0u : f.came * 256u / f.seen; };
    Successor& least = *std::ranges::min_element(row, {}, weight);
    bool hopeless = weight(least) < 64 || (least.seen == 1 && least.came <= 1);
    if (least.expert == TIERD_NO_EXPERT || hopeless) least = {expert, 1, 1};
}

// What is likely to follow this expert, and not expected already.
void ExpertPredictor::expect(const PolicyView& view, Model& model, uint16_t expert,
                             std::vector<ExtentId>& speculative) {
    uint32_t next = model.now.layer + 1;
    if (model.now.experts.size() > std::max(model.experts / kFewPart, 1u)) return;
    for (const Successor& successor : model.successors[size_t{model.now.layer} * model.experts + expert]) {
        bool likely = successor.seen >= kLeastSeen && 2 * successor.came >= successor.seen;
        if (!likely || contains(model.expected, successor.expert)) continue;
        std::vector<ExtentId> absent;
        each_slice(model, next, successor.expert, [&](ExtentId slice) {
            if (view.extents[slice].state == TIERD_EXTENT_ABSENT) absent.push_back(slice);
        });
        if (absent.empty()) continue;
        model.expected.push_back(successor.expert);
        if (model.score.predicting && speculative.size() + absent.size() <= kMostSpeculative)
            speculative.insert(speculative.end(), absent.begin(), absent.end());
    }
}

bool ExpertPredictor::is_mapped(const PolicyView& view, const Model& model, uint32_t layer, uint16_t expert) {
    bool mapped = false;
    each_slice(model, layer, expert,
               [&](ExtentId slice) { mapped |= (view.extents[slice].flags & TIERD_EXTENT_MAPPED) != 0; });
    return mapped;
}

ExpertPredictor::Score ExpertPredictor::score(uint32_t model) const {
    auto found = models_.find(model);
    return found == models_.end() ? Score{} : found->second.score;
}

}  // namespace tierd
