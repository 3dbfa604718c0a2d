// expert_predictor.h - predicts the experts of the next layer from those of this layer: a Markov predictor that
// learns while the model runs, and checks its predictions.
//
// Owns:      for each open mixture of experts a table of likely successors, at most 2 MiB.
// Invariant: a predicted extent is absent and belongs to the layer after the touched one. Predictions begin when at
//            least half of them would have been right, and stop when that is no longer so; checking continues without
//            reads.
// Callers:   a policy, the engine's thread. A touch costs a bounded walk.
// Fails:     never; a model without experts, or with too many, has no predictions.
//
// Only touches that fault are seen. A touch of a mapped successor would not be seen, so a mapped successor is neither
// counted nor predicted. A prompt uses nearly all experts of a layer and teaches nothing.
#pragma once

#include <array>
#include <cstdint>
#include <unordered_map>
#include <utility>
#include <vector>

#include "lib/policy/policy.h"

namespace tierd {

class ExpertPredictor {
  public:
    void model_open(const PolicyView& view, const PolicyModel& model);
    void model_close(uint32_t model);

    // An extent was touched. Appends the slices of experts of the next layer that are likely to follow and are
    // absent.
    void touched(const PolicyView& view, ExtentId extent, std::vector<ExtentId>& speculative);

    // How well it guesses, as a share of 256, and whether it does.
    struct Score {
        uint32_t right_256ths = 0;
        uint32_t samples = 0;
        bool predicting = false;
    };
    Score score(uint32_t model) const;

  private:
    static constexpr size_t kSuccessors = 8;

    struct Successor {
        uint16_t expert = TIERD_NO_EXPERT;
        uint8_t came = 0;  // in passes in which the expert was seen and it would have been
        uint8_t seen = 0;  // of so many
    };

    // One layer of the pass that is under way.
    struct Step {
        uint32_t layer = TIERD_NO_LAYER;
        std::vector<uint16_t> experts;    // touched
        std::vector<uint16_t> predicted;  // that were expected here, guessed or not
    };

    struct Model {
        ExtentId first_extent = 0;
        uint32_t layers = 0;
        uint32_t experts = 0;
        std::vector<std::pair<uint32_t, uint32_t>> slices;  // (layer << 16 | expert, index), ascending
        std::vector<std::array<Successor, kSuccessors>> successors;  // of layer * experts + expert
        Step before, now;
        std::vector<uint16_t> expected;  // of the next layer
        Score score;
    };

    static void begin_layer(const PolicyView& view, Model& model, uint32_t layer);
    static void judge(Model& model);
    static void learn(const PolicyView& view, Model& model);
    static void count(const PolicyView& view, Model& model, std::array<Successor, kSuccessors>& row);
    static void admit(std::array<Successor, kSuccessors>& row, uint16_t expert);
    static void expect(const PolicyView& view, Model& model, uint16_t expert,
                       std::vector<ExtentId>& speculative);
    static bool is_mapped(const PolicyView& view, const Model& model, uint32_t layer, uint16_t expert);
    template <class Visit>
    static void each_slice(const Model& model, uint32_t layer, uint16_t expert, Visit visit);

    std::unordered_map<uint32_t, Model> models_;
};

}  // namespace tierd
